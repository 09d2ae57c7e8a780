"""Diagonal Gaussians, the distribution of all latents. Shapes: Z latents."""

import math

import chex
import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class Gaussian:
  """Diagonal Gaussian over the last axis, with mean and logarithm of the standard deviation [..., Z]."""

  mean: jax.Array
  log_std: jax.Array

  def sample(self, noise: jax.Array) -> jax.Array:
    """Returns mean + std * noise, [..., Z], for standard normal noise [..., Z]."""
    return self.mean + jnp.exp(self.log_std) * noise

  def whiten(self, value: jax.Array) -> jax.Array:
    """Returns (value - mean) / std, [..., Z]: the inverse of `sample`."""
    return (value - self.mean) * jnp.exp(-self.log_std)

  def relative_to(self, prior: "Gaussian") -> "Gaussian":
    """Expresses this Gaussian in units of `prior`, which becomes N(0, I); the KL between the two is unchanged."""
    return Gaussian(prior.whiten(self.mean), self.log_std - prior.log_std)

  def log_prob(self, value: jax.Array) -> jax.Array:
    """Returns the log density [...] in nats of value [..., Z]."""
    chex.assert_equal_shape([value, self.mean])
    return (-0.5 * jnp.square(self.whiten(value)) - self.log_std - 0.5 * math.log(2 * math.pi)).sum(-1)

  def kl_per_unit(self) -> jax.Array:
    """Returns KL(self || N(0, I)) of each unit in nats, [..., Z]: 1/2 (mean^2 + var - log var - 1)."""
    return 0.5 * (jnp.square(self.mean) + jnp.exp(2 * self.log_std) - 2 * self.log_std - 1)

  def kl_to_standard(self) -> jax.Array:
    """Returns KL(self || N(0, I)) in nats, [...]."""
    return self.kl_per_unit().sum(-1)

  def kl(self, other: "Gaussian") -> jax.Array:
    """Returns KL(self || other) in nats, [...]."""
    return self.relative_to(other).kl_to_standard()

  def product(self, other: "Gaussian") -> "Gaussian":
    """Returns the normalized product of the two densities, the precision-weighted mean (Sonderby et al. 2016)."""
    own_precision, other_precision = jnp.exp(-2 * self.log_std), jnp.exp(-2 * other.log_std)
    precision = own_precision + other_precision
    mean = (own_precision * self.mean + other_precision * other.mean) / precision
    return Gaussian(mean, -0.5 * jnp.log(precision))


def standard_normal_log_prob(value: jax.Array) -> jax.Array:
  """Returns the log density [...] in nats of value [..., Z] under N(0, I)."""
  return (-0.5 * jnp.square(value) - 0.5 * math.log(2 * math.pi)).sum(-1)
