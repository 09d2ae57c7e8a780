"""Likelihoods of pixels, p(x | z), parametrized by a model's output layer or canvas.

Shapes: B batch, H W C image, P parameters of a pixel, K components of a mixture.
"""

import dataclasses
import itertools
import math
from typing import ClassVar, Protocol

import chex
import jax
import jax.numpy as jnp

# Beyond this range float32 can neither separate neighboring values nor add up the probabilities between them.
LOG_SCALE_RANGE = (-12.0, 12.0)
MIN_LOG_SCALE_OF_MIXTURE = -7.7  # a tenth of a level, as PixelCNN++: below, rare pixels would dominate the mean


class Likelihood(Protocol):
  """Distribution of every pixel, independent given z.

  The model predicts P parameters of each pixel (`pixel_params`). Parameters shared by all pixels of a channel are
  weights of the model (`log_scale`, if `has_scale`; otherwise None is passed for it).
  """

  has_scale: ClassVar[bool] = False

  def params_per_pixel(self, channels: int) -> int:
    """Returns P, by default one parameter of each channel value."""
    return channels

  def log_prob(self, pixel_params: jax.Array, images: jax.Array, log_scale: jax.Array | None) -> jax.Array:
    """Returns log p(x | z) in nats, [B], of images [B, H, W, C] in [0, 1]; `log_scale` is [C]."""

  def mean(self, pixel_params: jax.Array) -> jax.Array:
    """Returns the location of x, [..., H, W, C] in [0, 1]: shown in pictures and subtracted in DRAW's error image."""

  def init_params(self, mean: jax.Array) -> jax.Array:
    """Returns initial parameters [H, W, P] for training images with mean [H, W, C]."""

  def init_log_scale(self, std: jax.Array) -> dict[str, jax.Array]:
    """Returns {"log_scale": [C]} for residuals of standard deviation [C] around that mean; {} without a scale."""
    del std
    return {}

  def init_gain(self, std: jax.Array) -> jax.Array:
    """Returns the factor [P] by which to scale a new output layer's weights so that predictions vary by about `std`."""
    return jnp.ones_like(std)


@dataclasses.dataclass(frozen=True)
class Bernoulli(Likelihood):
  """Binary pixels; the parameters are logits."""

  def log_prob(self, logits: jax.Array, images: jax.Array, log_scale: None = None) -> jax.Array:
    """Returns the sum over pixels of x log p + (1 - x) log(1 - p) in nats, [B], with p = sigmoid(logits).

    For gray values strictly between 0 and 1 this is the usual cross-entropy, which is not a normalized likelihood.
    """
    del log_scale
    chex.assert_equal_shape([logits, images])
    logits, images = _flatten_pixels(logits), _flatten_pixels(images)
    return (images * logits - _softplus(logits)).sum(-1)

  def mean(self, logits: jax.Array) -> jax.Array:
    """Returns E[x | z], the probability of a 1."""
    return jax.nn.sigmoid(logits)

  def init_params(self, mean: jax.Array) -> jax.Array:
    """Returns the logits of the mean clipped to [0.01, 0.99], since saturated pixels learn slowly."""
    return jax.scipy.special.logit(jnp.clip(mean, 0.01, 0.99))


@dataclasses.dataclass(frozen=True)
class DiscretizedLogistic(Likelihood):
  """Channel values k/255, k = 0, .., 255, each with the mass of a logistic around it (Kingma et al. 2016).

      p(k) = sigmoid(((k + 1/2)/255 - mu)/s) - sigmoid(((k - 1/2)/255 - mu)/s),   mu = 1/2 + param/4

  (arXiv:1606.04934), where the first sigmoid is 1 for k = 255 and the second 0 for k = 0, so that the 256 probabilities
  add up to 1. Each channel has its own scale s. The factor 1/4 makes mu as sensitive to its parameter as the
  probability of a Bernoulli is to its logit around 1/2, so the same learning rates and initial weights suit both.
  """

  has_scale: ClassVar[bool] = True

  def log_prob(self, pixel_params: jax.Array, images: jax.Array, log_scale: jax.Array) -> jax.Array:
    """Rounds pixels to the nearest multiple of 1/255.

    With a, b = ((k -+ 1/2)/255 - mu)/s, which differ by d = 1/(255 s),

        sigmoid(b) - sigmoid(a) = sigmoid(b) sigmoid(-a) (1 - exp(-d))

    is a product, so tails are exact and nothing cancels.
    """
    chex.assert_equal_shape([pixel_params, images])
    chex.assert_shape(log_scale, pixel_params.shape[-1:])
    k = jnp.round(255 * _flatten_pixels(images))
    d = jnp.exp(-jnp.clip(log_scale, *LOG_SCALE_RANGE)) / 255  # [C]
    log_within = jnp.log(-jnp.expm1(-d))
    d, log_within = (_flatten_pixels(jnp.broadcast_to(x, pixel_params.shape)) for x in (d, log_within))
    middle = (k - 255 * _flatten_pixels(self.center(pixel_params))) * d  # (a + b) / 2
    log_below_b = jnp.where(k < 255, -_softplus(-middle - 0.5 * d), 0)
    log_above_a = jnp.where(k > 0, -_softplus(middle - 0.5 * d), 0)
    return (log_below_b + log_above_a + jnp.where((k > 0) & (k < 255), log_within, 0)).sum(-1)

  def center(self, pixel_params: jax.Array) -> jax.Array:
    """Returns mu, any real number: values 0 and 1 become certain only as mu moves beyond them."""
    return 0.5 + 0.25 * pixel_params

  def mean(self, pixel_params: jax.Array) -> jax.Array:
    """Returns mu clipped to [0, 1]: the median of x, and E[x | z] up to the effect of the open ends."""
    return jnp.clip(self.center(pixel_params), 0, 1)

  def init_params(self, mean: jax.Array) -> jax.Array:
    return 4 * (mean - 0.5)

  def init_log_scale(self, std: jax.Array) -> dict[str, jax.Array]:
    """Returns log s of a logistic with standard deviation s pi / sqrt(3) = std, at least half a level."""
    return {"log_scale": jnp.log(jnp.maximum(std, 0.5 / 255) * math.sqrt(3) / math.pi)}

  def init_gain(self, std: jax.Array) -> jax.Array:
    """Returns the gain with which a parameter of size 1 moves mu by one standard deviation."""
    return jnp.minimum(4 * std, 1)


@dataclasses.dataclass(frozen=True)
class LogisticMixture(Likelihood):
  """Pixels of channel values k/255 as a mixture of K discretized logistics (Salimans et al. 2017, arXiv:1701.05517).

      p(x) = sum_k w_k prod_c p(x_c; m_kc, s_kc),   m_kc = mu_kc + sum_{j < c} tanh(a_kcj) (x_j - mu_kj)

  with p as in `DiscretizedLogistic`. The channels of a pixel share the weights w, and the mean of green depends on red,
  that of blue on red and green. PixelCNN++ has x_j in place of x_j - mu_kj: the same distributions, but here mu_kc is
  the component's mean whatever the coefficients are.

  A pixel has P = K (C + 1) (C + 2) / 2 parameters, K of each kind: logits of w; for each channel 4 (mu - 1/2); for each
  channel log s relative to the weight `log_scale` of that channel; a of each pair c, j.
  """

  has_scale: ClassVar[bool] = True
  INIT_GAIN: ClassVar[float] = 0.1  # of all parameters but the means

  num_components: int = 10  # K

  def params_per_pixel(self, channels: int) -> int:
    return self.num_components * (channels + 1) * (channels + 2) // 2

  def log_prob(self, pixel_params: jax.Array, images: jax.Array, log_scale: jax.Array) -> jax.Array:
    """Rounds pixels to the nearest multiple of 1/255."""
    channels = images.shape[-1]
    chex.assert_shape(pixel_params, (*images.shape[:-1], self.params_per_pixel(channels)))
    chex.assert_shape(log_scale, (channels,))
    logits, centers, log_scales, coefficients = self._split(pixel_params)
    levels = jnp.round(255 * images).reshape(*logits.shape[:-1], channels)  # [B, H W, C]
    log_p = jax.nn.log_softmax(logits, axis=-1)  # [B, H W, K]
    residuals, pairs = [], iter(coefficients)
    for c in range(channels):
      level = levels[..., c, None]
      center = centers[c] + sum(jnp.tanh(next(pairs)) * residual for residual in residuals)
      log_s = jnp.clip(log_scale[c] + log_scales[c], MIN_LOG_SCALE_OF_MIXTURE, LOG_SCALE_RANGE[1])
      log_p += _log_mass(level, center, log_s)
      residuals.append(level / 255 - centers[c])
    return jax.nn.logsumexp(log_p, axis=-1).sum(-1)

  def mean(self, pixel_params: jax.Array) -> jax.Array:
    """Returns sum_k w_k mu_k, each mu clipped to [0, 1]: E[x | z] up to the effect of the open ends.

    Between two components it is a value that neither of them has.
    """
    logits, centers, *_ = self._split(pixel_params)
    weights = jax.nn.softmax(logits, axis=-1)
    means = [(weights * jnp.clip(center, 0, 1)).sum(-1) for center in centers]
    return jnp.stack(means, axis=-1).reshape(*pixel_params.shape[:-1], len(means))

  def init_params(self, mean: jax.Array) -> jax.Array:
    """Returns parameters with which all components are alike; the output layer's weights tell them apart."""
    channels = mean.shape[-1]
    kinds = jnp.zeros((*mean.shape[:-1], (channels + 1) * (channels + 2) // 2))
    kinds = kinds.at[..., 1 : channels + 1].set(4 * (mean - 0.5))
    return jnp.repeat(kinds, self.num_components, axis=-1)

  def init_log_scale(self, std: jax.Array) -> dict[str, jax.Array]:
    return DiscretizedLogistic().init_log_scale(std)

  def init_gain(self, std: jax.Array) -> jax.Array:
    channels = len(std)
    kinds = jnp.full((channels + 1) * (channels + 2) // 2, self.INIT_GAIN)
    kinds = kinds.at[1 : channels + 1].set(DiscretizedLogistic().init_gain(std))
    return jnp.repeat(kinds, self.num_components)

  def _split(self, pixel_params: jax.Array) -> tuple[jax.Array, list[jax.Array], list[jax.Array], list[jax.Array]]:
    """Returns logits, mu and log s of each channel, and a of each pair of channels, [..., H W, K] each."""
    kinds = pixel_params.shape[-1] // self.num_components
    channels = next(c for c in itertools.count(1) if (c + 1) * (c + 2) // 2 >= kinds)
    pixels = pixel_params.reshape(*pixel_params.shape[:-3], -1, pixel_params.shape[-1])
    logits, *others = jnp.split(pixels, kinds, axis=-1)
    centers = [DiscretizedLogistic().center(x) for x in others[:channels]]
    return logits, centers, others[channels : 2 * channels], others[2 * channels :]


LIKELIHOODS: dict[str, Likelihood] = {
  "bernoulli": Bernoulli(),
  "discretized_logistic": DiscretizedLogistic(),
  "logistic_mixture": LogisticMixture(),
}


def _log_mass(k: jax.Array, center: jax.Array, log_scale: jax.Array) -> jax.Array:
  """Returns log(sigmoid(b) - sigmoid(a)) of level k, see `DiscretizedLogistic.log_prob`, with a single logarithm:

  log sigmoid(b) = min(b, 0) - log(1 + exp(-|b|)),   log sigmoid(-a) = -max(a, 0) - log(1 + exp(-|a|))
  """
  d = jnp.exp(-log_scale) / 255
  middle = (k - 255 * center) * d
  a, b = middle - 0.5 * d, middle + 0.5 * d
  below_end, above_start = k < 255, k > 0
  within = jnp.where(below_end & above_start, -jnp.expm1(-d), 1)
  outside_a, outside_b = (1 + jnp.exp(-jnp.where(x >= 0, x, -x)) for x in (a, b))  # `abs` has no slope at 0
  log_ratio = jnp.log(within / (jnp.where(above_start, outside_a, 1) * jnp.where(below_end, outside_b, 1)))
  return log_ratio + jnp.where(below_end & (b < 0), b, 0) - jnp.where(above_start & (a >= 0), a, 0)


def _softplus(x: jax.Array) -> jax.Array:
  """Returns log(1 + exp(x)) in half the time of `jax.nn.softplus`.

  Uses `where` rather than `maximum`, whose derivative at 0 does not match that of `abs`: pixels of a canvas that no
  window has reached are exactly 0, and their gradient must be x - 1/2.
  """
  return jnp.where(x >= 0, x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x)))


def _flatten_pixels(images: jax.Array) -> jax.Array:
  """Returns [..., H W C]: on a CPU, arithmetic along a last axis of one channel is several times slower."""
  return images.reshape(*images.shape[:-3], -1)
