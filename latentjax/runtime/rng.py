"""Independent random streams of a run."""

from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict


class RngStreams(NamedTuple):
  """The independent random streams of a run, all from its seed; [S] where S seeds are trained together."""

  init: jax.Array
  order: jax.Array
  train: jax.Array
  evaluate: jax.Array
  sample: jax.Array
  likelihood: jax.Array
  statistics: jax.Array


def create_rng_streams(config: ConfigDict) -> RngStreams:
  """The streams of a run: for every seed those that a single run with it has."""

  def of_seed(seed):
    return RngStreams(*jax.random.split(jax.random.key(seed), len(RngStreams._fields)))

  if config.train.num_seeds == 1:
    return of_seed(config.seed)
  return jax.vmap(of_seed)(np.arange(config.seed, config.seed + config.train.num_seeds, dtype=np.uint32))
