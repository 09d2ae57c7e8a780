"""The distribution of latents: a diagonal Gaussian."""

import math

import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class Gaussian:
  """Diagonal Gaussian over the last axis.

  Attributes:
    mean: [..., Z].
    log_std: [..., Z] logarithm of the standard deviation; any real number is valid.
  """

  mean: jax.Array
  log_std: jax.Array

  def sample(self, noise: jax.Array) -> jax.Array:
    """[..., Z] mean + std * noise, for standard normal noise [..., Z]."""
    return self.mean + jnp.exp(self.log_std) * noise

  def whiten(self, value: jax.Array) -> jax.Array:
    """[..., Z] (value - mean) / std: the noise that `sample` would turn into value."""
    return (value - self.mean) * jnp.exp(-self.log_std)

  def relative_to(self, prior: "Gaussian") -> "Gaussian":
    """Self in units of a prior, which is N(0, I) there: the KL between the two stays what it is."""
    return Gaussian(prior.whiten(self.mean), self.log_std - prior.log_std)

  def log_prob(self, value: jax.Array) -> jax.Array:
    """[...] log density in nats of value [..., Z]."""
    return (-0.5 * jnp.square(self.whiten(value)) - self.log_std - 0.5 * math.log(2 * math.pi)).sum(-1)

  def kl_per_unit(self) -> jax.Array:
    """[..., Z] KL(self || N(0, I)) in nats of every unit, 1/2 (mean^2 + var - log var - 1)."""
    return 0.5 * (jnp.square(self.mean) + jnp.exp(2 * self.log_std) - 2 * self.log_std - 1)

  def kl_to_standard(self) -> jax.Array:
    """[...] KL(self || N(0, I)) in nats."""
    return self.kl_per_unit().sum(-1)

  def kl(self, other: "Gaussian") -> jax.Array:
    """[...] KL(self || other) in nats."""
    return self.relative_to(other).kl_to_standard()

  def product(self, other: "Gaussian") -> "Gaussian":
    """Their precision-weighted product: precisions add, means are weighed by them (Sonderby et al. 2016)."""
    own, others = jnp.exp(-2 * self.log_std), jnp.exp(-2 * other.log_std)
    precision = own + others
    return Gaussian((own * self.mean + others * other.mean) / precision, -0.5 * jnp.log(precision))


def standard_normal_log_prob(value: jax.Array) -> jax.Array:
  """[...] log density in nats of value [..., Z] under N(0, I)."""
  return (-0.5 * jnp.square(value) - 0.5 * math.log(2 * math.pi)).sum(-1)
