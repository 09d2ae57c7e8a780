"""Metrics of training steps, summed over an epoch. Values in nats per image."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

NO_DIVERGENCE = jnp.iinfo(jnp.int32).max
SUMMED_METRICS = ("loss", "elbo", "kl", "reconstruction")  # fields of `Metrics`


@struct.dataclass
class Metrics:
  """Sums of batch means over training steps; `mean` divides. With S seeds, all fields but `steps` are [S].

  Attributes:
    loss: Training loss: with KL weight and free bits, or importance-weighted.
    elbo, kl, reconstruction: Terms of the true bound (beta 1, no free bits); elbo = -(kl + reconstruction).
    steps: Number of steps.
    diverged_at: First step whose loss or gradient was not finite, or NO_DIVERGENCE.
  """

  loss: jax.Array
  elbo: jax.Array
  kl: jax.Array
  reconstruction: jax.Array
  steps: jax.Array
  diverged_at: jax.Array

  @classmethod
  def zero(cls, num_seeds: int = 1) -> "Metrics":
    shape = () if num_seeds == 1 else (num_seeds,)
    zero = jnp.zeros(shape)
    return cls(zero, zero, zero, zero, jnp.zeros((), jnp.int32), jnp.full(shape, NO_DIVERGENCE))

  def __add__(self, other: "Metrics") -> "Metrics":
    total = jax.tree.map(jnp.add, self, other)
    return total.replace(diverged_at=jnp.minimum(self.diverged_at, other.diverged_at))

  def mean(self) -> dict[str, float | list[float]]:
    """Returns means over the summed steps, on the host; lists of S with several seeds."""
    sums = jax.device_get(self)
    return {name: (getattr(sums, name) / sums.steps).tolist() for name in SUMMED_METRICS}

  @property
  def divergence(self) -> tuple[int, int] | None:
    """First step whose loss or gradient was not finite, and the index of its seed; None if all were finite."""
    index = int(np.argmin(self.diverged_at))
    step = int(np.ravel(self.diverged_at)[index])
    return None if step == NO_DIVERGENCE else (step, index)


METRICS_AXES = Metrics(loss=0, elbo=0, kl=0, reconstruction=0, steps=None, diverged_at=0)  # for vmap over seeds
