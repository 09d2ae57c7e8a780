"""Loading of trained models from Python; see `latentjax.load`."""

import os
from pathlib import Path

import jax
import numpy as np

from latentjax.inference.trained_model import TrainedModel, load_seed
from latentjax.runtime.errors import RunError, UsageError
from latentjax.runtime.fileio import expand_user
from latentjax.workdir import records


def load(workdir: str | Path, seed_index: int = 0) -> TrainedModel:
  """Implements `latentjax.load`."""
  if not isinstance(workdir, str | os.PathLike):
    raise TypeError(f"workdir must be a path, not {workdir!r}.")
  if isinstance(seed_index, bool) or not isinstance(seed_index, int | np.integer):
    raise TypeError(f"seed_index must be an integer, not {seed_index!r}.")
  if jax.config.jax_enable_x64:
    raise ValueError("jax_enable_x64 is on, and latentjax computes in float32. Turn it off.")
  try:
    workdir = expand_user(workdir)
    if not (workdir / "config.json").is_file():
      raise ValueError(f"No run in {workdir} (config.json is missing). Pass a workdir that --mode=train has written.")
    config = records.read_config(workdir)
    last = config.train.num_seeds - 1
    if not 0 <= seed_index <= last:
      raise ValueError(f"No seed {seed_index} in {workdir}. Pass a seed_index from 0 to {last}.")
    return load_seed(config, workdir, seed_index)
  except (UsageError, RunError) as error:
    raise ValueError(str(error)) from None
