"""What the pixels are: p(x | z), given the number that a model's output layer or canvas holds for each of them.

Shapes: B batch, H W C image.
"""

import dataclasses
import math
from typing import ClassVar, Protocol

import jax
import jax.numpy as jnp

# Of the logistic, beyond which float32 can neither tell neighbouring values apart nor add up what lies between them.
LOG_SCALE_RANGE = (-12.0, 12.0)


class Likelihood(Protocol):
  """A distribution of every channel value of every pixel, independent given z.

  The model gives one parameter for each channel value, `pixel_params` below. What the values of a channel share is a
  weight beside them, the `log_scale` [C].

  Attributes:
    scaled: whether it has a `log_scale`; None stands for it where it has not.
  """

  has_scale: ClassVar[bool]

  def log_prob(self, pixel_params: jax.Array, images: jax.Array, log_scale: jax.Array | None) -> jax.Array:
    """[B] log p(x | z) in nats of images [B, H, W, C] in [0, 1]."""

  def mean(self, pixel_params: jax.Array) -> jax.Array:
    """[..., H, W, C] where x lies, in [0, 1]: what a picture shows, and what DRAW's error image is measured from."""

  def start(self, mean: jax.Array) -> jax.Array:
    """[H, W, C] parameters for a model to start from, where the training images have the mean [H, W, C]."""

  def init_log_scale(self, std: jax.Array) -> dict[str, jax.Array]:
    """{"log_scale": [C]} to start from, where values have the deviation [C] from that mean; {} where there is none."""

  def init_gain(self, std: jax.Array) -> jax.Array:
    """[C] factor on an output layer's fresh weights, which else draw images that no such deviation explains."""


@dataclasses.dataclass(frozen=True)
class Bernoulli:
  """Pixels 0 and 1; the parameters are logits."""

  has_scale: ClassVar[bool] = False

  def log_prob(self, logits: jax.Array, images: jax.Array, log_scale: None = None) -> jax.Array:
    """[B] sum over pixels of x log p + (1 - x) log(1 - p) in nats, p = sigmoid(logits).

    For grey values strictly between 0 and 1 this is the usual cross-entropy, which is not a normalised likelihood.
    """
    del log_scale
    logits, images = flatten_pixels(logits), flatten_pixels(images)
    return (images * logits - softplus(logits)).sum(-1)

  def mean(self, logits: jax.Array) -> jax.Array:
    """[..., H, W, C] the probability of a 1, which is E[x | z]."""
    return jax.nn.sigmoid(logits)

  def start(self, mean: jax.Array) -> jax.Array:
    """[H, W, C] the mean's logit; of the mean clipped to [0.01, 0.99]: a pixel that is too sure learns slowly."""
    return jax.scipy.special.logit(jnp.clip(mean, 0.01, 0.99))

  def init_log_scale(self, std: jax.Array) -> dict[str, jax.Array]:
    del std
    return {}

  def init_gain(self, std: jax.Array) -> jax.Array:
    return jnp.ones_like(std)


@dataclasses.dataclass(frozen=True)
class DiscretizedLogistic:
  """Channel values k/255, k = 0, .., 255: the mass of a logistic around each (Kingma et al. 2016, arXiv:1606.04934).

      p(k) = sigmoid(((k + 1/2)/255 - mu)/s) - sigmoid(((k - 1/2)/255 - mu)/s),   mu = 1/2 + number/4

  where the first sigmoid is 1 for k = 255 and the second 0 for k = 0, so that the 256 add up to 1. The scale s is one
  for each channel. A number moves mu as a logit moves a Bernoulli's probability around 1/2: what suits one as learning
  rate and as initial weights suits the other.
  """

  has_scale: ClassVar[bool] = True

  def log_prob(self, pixel_params: jax.Array, images: jax.Array, log_scale: jax.Array) -> jax.Array:
    """[B] in nats; a pixel that is no multiple of 1/255 counts as the nearest.

    With a, b = ((k -+ 1/2)/255 - mu)/s, which are d = 1/(255 s) apart,

        sigmoid(b) - sigmoid(a) = sigmoid(b) sigmoid(-a) (1 - exp(-d))

    is a product, so that no tail is lost and nothing cancels.
    """
    k = jnp.round(255 * flatten_pixels(images))
    d = jnp.exp(-jnp.clip(log_scale, *LOG_SCALE_RANGE)) / 255  # [C]
    log_within = jnp.log(-jnp.expm1(-d))
    d, log_within = (flatten_pixels(jnp.broadcast_to(x, pixel_params.shape)) for x in (d, log_within))
    middle = (k - 255 * flatten_pixels(self.centre(pixel_params))) * d  # (a + b) / 2
    log_below_b = jnp.where(k < 255, -softplus(-middle - 0.5 * d), 0)
    log_above_a = jnp.where(k > 0, -softplus(middle - 0.5 * d), 0)
    return (log_below_b + log_above_a + jnp.where((k > 0) & (k < 255), log_within, 0)).sum(-1)

  def centre(self, pixel_params: jax.Array) -> jax.Array:
    """mu, any real number: 0 and 1 become certain only where it lies beyond them."""
    return 0.5 + 0.25 * pixel_params

  def mean(self, pixel_params: jax.Array) -> jax.Array:
    """[..., H, W, C] mu between 0 and 1: the median of x, and E[x | z] but for what the open ends bend."""
    return jnp.clip(self.centre(pixel_params), 0, 1)

  def start(self, mean: jax.Array) -> jax.Array:
    """[H, W, C] the parameters whose mu is the mean."""
    return 4 * (mean - 0.5)

  def init_log_scale(self, std: jax.Array) -> dict[str, jax.Array]:
    """s of a logistic with that deviation, s pi / sqrt(3); of half a step between values at least."""
    return {"log_scale": jnp.log(jnp.maximum(std, 0.5 / 255) * math.sqrt(3) / math.pi)}

  def init_gain(self, std: jax.Array) -> jax.Array:
    """With it a number of size 1 moves mu by the deviation."""
    return jnp.minimum(4 * std, 1)


LIKELIHOODS: dict[str, Likelihood] = {"bernoulli": Bernoulli(), "discretized_logistic": DiscretizedLogistic()}


def init_output_layer(observation_model: Likelihood, layer: dict[str, jax.Array], mean: jax.Array, std: jax.Array):
  """A dense output layer, kernel [I, H W C] and bias, that starts at mean [H, W, C] and deviation [C]."""
  gain = jnp.broadcast_to(observation_model.init_gain(std), mean.shape).ravel()
  return {"kernel": layer["kernel"] * gain[None], "bias": observation_model.start(mean).ravel()}


def flatten_pixels(images: jax.Array) -> jax.Array:
  """[..., H W C]: arithmetic along a last axis of one channel is several times slower on a CPU."""
  return images.reshape(*images.shape[:-3], -1)


def softplus(x: jax.Array) -> jax.Array:
  """log(1 + exp(x)) in half the time of `jax.nn.softplus`.

  `where` and not `maximum`, whose derivative at 0 is another than that of `abs`: a canvas that no window has met yet is
  exactly 0, and its gradient must be x - 1/2.
  """
  return jnp.where(x >= 0, x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x)))
