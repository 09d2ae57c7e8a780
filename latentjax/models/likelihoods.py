"""Likelihoods of pixels, p(x | z), parametrized by a model's output layer or canvas. Shapes: B batch, H W C image."""

import dataclasses
import math
from typing import ClassVar, Protocol

import chex
import jax
import jax.numpy as jnp

# Beyond this range float32 can neither separate neighboring values nor add up the probabilities between them.
LOG_SCALE_RANGE = (-12.0, 12.0)


class Likelihood(Protocol):
  """Distribution of every channel value of every pixel, independent given z.

  The model predicts one parameter per channel value (`pixel_params`). Parameters shared by all pixels of a channel are
  weights of the model (`log_scale`, if `has_scale`; otherwise None is passed for it).
  """

  has_scale: ClassVar[bool] = False

  def log_prob(self, pixel_params: jax.Array, images: jax.Array, log_scale: jax.Array | None) -> jax.Array:
    """Returns log p(x | z) in nats, [B], of images [B, H, W, C] in [0, 1]; `log_scale` is [C]."""

  def mean(self, pixel_params: jax.Array) -> jax.Array:
    """Returns the location of x, [..., H, W, C] in [0, 1]: shown in pictures and subtracted in DRAW's error image."""

  def init_params(self, mean: jax.Array) -> jax.Array:
    """Returns initial parameters [H, W, C] for training images with mean [H, W, C]."""

  def init_log_scale(self, std: jax.Array) -> dict[str, jax.Array]:
    """Returns {"log_scale": [C]} for residuals of standard deviation [C] around that mean; {} without a scale."""
    del std
    return {}

  def init_gain(self, std: jax.Array) -> jax.Array:
    """Returns the factor [C] by which to scale a new output layer's weights so that predictions vary by about `std`."""
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


LIKELIHOODS: dict[str, Likelihood] = {"bernoulli": Bernoulli(), "discretized_logistic": DiscretizedLogistic()}


def _softplus(x: jax.Array) -> jax.Array:
  """Returns log(1 + exp(x)) in half the time of `jax.nn.softplus`.

  Uses `where` rather than `maximum`, whose derivative at 0 does not match that of `abs`: pixels of a canvas that no
  window has reached are exactly 0, and their gradient must be x - 1/2.
  """
  return jnp.where(x >= 0, x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x)))


def _flatten_pixels(images: jax.Array) -> jax.Array:
  """Returns [..., H W C]: on a CPU, arithmetic along a last axis of one channel is several times slower."""
  return images.reshape(*images.shape[:-3], -1)
