"""What the pixels are: p(x | z), given the numbers that a model's output layer or canvas holds for them.

Shapes: B batch, H W C image.
"""

import dataclasses
from typing import ClassVar, Protocol

import jax
import jax.numpy as jnp


class Likelihood(Protocol):
  """A distribution of every channel value of every pixel, independent given z.

  Attributes:
    num_parameters: P, how many numbers a channel value needs; `parameters` below are [B, H, W, P C].
  """

  num_parameters: ClassVar[int]

  def log_prob(self, parameters: jax.Array, images: jax.Array) -> jax.Array:
    """[B] log p(x | z) in nats of images [B, H, W, C] in [0, 1]."""

  def mean(self, parameters: jax.Array) -> jax.Array:
    """[..., H, W, C] E[x | z] in [0, 1]: what a picture shows, and what DRAW's error image is measured from."""

  def start(self, mean: jax.Array) -> jax.Array:
    """[H, W, P C] parameters for a model to start from, where the training images have the mean [H, W, C]."""


@dataclasses.dataclass(frozen=True)
class Bernoulli:
  """Pixels 0 and 1; the parameters are logits."""

  num_parameters: ClassVar[int] = 1

  def log_prob(self, parameters: jax.Array, images: jax.Array) -> jax.Array:
    """[B] sum over pixels of x log p + (1 - x) log(1 - p) in nats, p = sigmoid(logits).

    For grey values strictly between 0 and 1 this is the usual cross-entropy, which is not a normalised likelihood.
    """
    # Flat: arithmetic along a last axis of one channel is several times slower on a CPU.
    logits, images = (x.reshape(*x.shape[:-3], -1) for x in (parameters, images))
    # Half the time of jax.nn.softplus. `where` and not `maximum`, whose derivative at 0 is another than that of `abs`:
    # a canvas that no window has met yet is exactly 0, and its gradient must be x - 1/2.
    softplus = jnp.where(logits >= 0, logits, 0) + jnp.log1p(jnp.exp(-jnp.abs(logits)))
    return (images * logits - softplus).sum(-1)

  def mean(self, parameters: jax.Array) -> jax.Array:
    """[..., H, W, C] the probability of a 1."""
    return jax.nn.sigmoid(parameters)

  def start(self, mean: jax.Array) -> jax.Array:
    """[H, W, C] the mean's logit; of the mean clipped to [0.01, 0.99]: a pixel that is too sure learns slowly."""
    return jax.scipy.special.logit(jnp.clip(mean, 0.01, 0.99))
