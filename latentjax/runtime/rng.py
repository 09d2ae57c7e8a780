"""Independent random streams of a run."""

from typing import NamedTuple

import jax
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


def create_rng_streams(config: ConfigDict) -> RngStreams:
  """Returns the streams of a run; each of several seeds has those of its single-seed run."""

  def streams(seed):
    return RngStreams(*jax.random.split(jax.random.key(seed), len(RngStreams._fields)))

  if config.train.num_seeds == 1:
    return streams(config.seed)
  return jax.vmap(streams)(np.arange(config.seed, config.seed + config.train.num_seeds, dtype=np.uint32))
