"""model.npz: the trained weights of a run, in one file that needs no data, checkpoints or Orbax.

    format            see `records.FORMAT`
    image_shape       H, W, C
    seed, step        [S] the seeds, and the training step of each
    params/...        float32 [S, ...] parameters (their moving average if the run has one), by path
    batch_stats/...   float32 [S, ...] batch-norm statistics; none without batch norm

Training writes it after every epoch that is the best so far, with the running batch-norm statistics; the evaluation
writes it with statistics recomputed for the parameters. It holds arrays only, so opening it executes no code.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax.serialization import to_state_dict
from flax.traverse_util import flatten_dict, unflatten_dict

from latentjax.runtime import distributed
from latentjax.runtime.errors import damaged
from latentjax.runtime.fileio import open_npz, write_atomic
from latentjax.workdir.records import FORMAT, check_format

WEIGHTS_NAME = "model.npz"
COLLECTIONS = ("params", "batch_stats")
ADVICE = "Delete it; --mode=evaluate writes it again"  # for a damaged file


class Weights(NamedTuple):
  """Content of model.npz."""

  image_shape: tuple[int, int, int]
  steps: list[int]  # training step of every seed
  variables: dict[str, Any]  # collections of arrays [S, ...], also for a single seed


class BestWeights:
  """Writes the model.npz of a run in training, with the weights of every seed at its best epoch so far."""

  def __init__(self, workdir: Path, image_shape: Sequence[int], seeds: Sequence[int]):
    self._workdir, self._image_shape, self._seeds = workdir, image_shape, seeds
    self._steps: list[int | None] = [None] * len(seeds)
    self._variables: list[Any] = [None] * len(seeds)

  def update(self, state: Any, best_steps: Sequence[int]) -> None:
    """Replaces the weights of the seeds for which a `TrainState` is the best so far; see `Checkpointer.best_steps`."""
    step, single = int(state.step), len(self._seeds) == 1
    new = [index for index, current in enumerate(self._steps) if current != step == best_steps[index]]
    if not new:
      return
    variables = jax.device_get(distributed.first_shard(state.variables))
    for index in new:
      self._steps[index] = step
      # Copies: on a CPU, a NumPy array may be a view of a buffer that the next training step overwrites.
      self._variables[index] = jax.tree.map(lambda x, i=index: np.array(x if single else x[i]), variables)
    if None not in self._steps:
      distributed.on_process_zero(
        lambda: write_weights(self._workdir, self._image_shape, self._seeds, self._steps, self._variables)
      )


def write_weights(
  workdir: Path, image_shape: Sequence[int], seeds: Sequence[int], steps: Sequence[int], variables: Sequence[Any]
) -> None:
  """Writes model.npz atomically, from the training step and the variables of every seed."""
  stacked = jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *variables)
  arrays = flatten_dict(to_state_dict(stacked), sep="/")
  file = io.BytesIO()
  np.savez(file, format=FORMAT, image_shape=np.array(image_shape), seed=np.array(seeds), step=np.array(steps), **arrays)
  write_atomic(workdir / WEIGHTS_NAME, file.getvalue())


def read_weights(workdir: Path) -> Weights | None:
  """Returns the content of model.npz, or None if it is missing; raises RunError if it cannot be used."""
  path = workdir / WEIGHTS_NAME
  if not path.exists():
    return None
  with open_npz(path, ADVICE) as arrays:
    found, number = dict(arrays), int(arrays["format"])
  check_format(path, number)
  try:
    height, width, channels = map(int, found["image_shape"])
    steps = [int(step) for step in found["step"]]
    flat = {name: array for name, array in found.items() if name.startswith(COLLECTIONS)}
    if not all(np.isfinite(array).all() for array in flat.values()):
      raise ValueError("some weights are not finite")
    variables = {collection: {} for collection in COLLECTIONS} | unflatten_dict(flat, sep="/")
    return Weights((height, width, channels), steps, variables)
  except Exception as error:
    raise damaged(path, ADVICE, str(error)) from None


def describe(variables: dict, first_axis: int) -> dict[tuple[str, ...], tuple]:
  """Returns path -> (shape from `first_axis` on, type) of every array."""
  return {name: (array.shape[first_axis:], array.dtype) for name, array in flatten_dict(variables).items()}
