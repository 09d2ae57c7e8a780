"""Diagonal Gaussians, the distribution of all latents. Shapes: Z latents."""

import itertools
import math
from collections.abc import Sequence

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

  def log_prob_of_sample(self, noise: jax.Array) -> jax.Array:
    """Returns the log density [...] in nats of sample(noise).

    It is computed from the noise: for a small std the sample, rounded to float32, no longer determines it.
    """
    chex.assert_equal_shape([noise, self.mean])
    return (-0.5 * jnp.square(noise) - self.log_std - 0.5 * math.log(2 * math.pi)).sum(-1)

  def relative_to(self, prior: "Gaussian") -> "Gaussian":
    """Expresses this Gaussian in units of `prior`, which becomes N(0, I); the KL between the two is unchanged."""
    root = jnp.exp(-0.5 * prior.log_std)  # twice, because 1 / std may overflow where the difference is 0
    return Gaussian((self.mean - prior.mean) * root * root, self.log_std - prior.log_std)

  def kl_per_unit(self) -> jax.Array:
    """Returns KL(self || N(0, I)) of each unit in nats, [..., Z]: 1/2 (mean^2 + var - log var - 1)."""
    return 0.5 * (jnp.square(self.mean) + jnp.exp(2 * self.log_std) - 2 * self.log_std - 1)

  def kl_to_standard(self) -> jax.Array:
    """Returns KL(self || N(0, I)) in nats, [...]."""
    return self.kl_per_unit().sum(-1)

  def product(self, other: "Gaussian") -> "Gaussian":
    """Returns the normalized product of the two densities, the precision-weighted mean (Sonderby et al. 2016)."""
    log_ratio = 2 * (other.log_std - self.log_std)  # of the precisions
    mean = jax.nn.sigmoid(log_ratio) * self.mean + jax.nn.sigmoid(-log_ratio) * other.mean
    return Gaussian(mean, -0.5 * jnp.logaddexp(-2 * self.log_std, -2 * other.log_std))


def standard_normal_log_prob(value: jax.Array) -> jax.Array:
  """Returns the log density [...] in nats of value [..., Z] under N(0, I)."""
  return (-0.5 * jnp.square(value) - 0.5 * math.log(2 * math.pi)).sum(-1)


def standard_normals(key: jax.Array, batch: int, sizes: Sequence[int]) -> list[jax.Array]:
  """Returns noise [B, size] for each size."""
  return jnp.split(jax.random.normal(key, (batch, sum(sizes))), list(itertools.accumulate(sizes))[:-1], axis=-1)
