"""Independent random streams of a run."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict


class RngStreams(NamedTuple):
  """The random keys of a run, all derived from its seed; [S] if S seeds are trained together."""

  init: jax.Array
  order: jax.Array
  train: jax.Array
  evaluate: jax.Array
  sample: jax.Array
  likelihood: jax.Array
  statistics: jax.Array


def create_key(seed: int | jax.Array) -> jax.Array:
  """Returns jax.random.key(seed) for a seed below 2^32, regardless of JAX's default generator and seed offset."""
  seed = jnp.asarray(seed, jnp.uint32)
  return jax.random.wrap_key_data(jnp.stack([jnp.zeros_like(seed), seed]), impl="threefry2x32")


def create_rng_streams(config: ConfigDict) -> RngStreams:
  """Returns the streams of a run; each of several seeds has those of its single-seed run."""

  def streams(seed):
    return RngStreams(*jax.random.split(create_key(seed), len(RngStreams._fields)))

  if config.train.num_seeds == 1:
    return streams(config.seed)
  return jax.vmap(streams)(np.arange(config.seed, config.seed + config.train.num_seeds, dtype=np.uint32))
