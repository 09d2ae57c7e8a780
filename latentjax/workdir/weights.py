"""model.npz: a run's trained weights, in one file that opens without its data, checkpoints or Orbax.

    format            as of config.json
    image_shape       H, W, C
    seed, step        [S] of every seed, and at which step of its training
    params/...        float32 [S, ...]: the weights, averaged if the run averages them, by the path of their names
    batch_stats/...   the same of batch norm's statistics; none without batch norm

Training writes it after every epoch that is the best so far, with the running batch statistics; the evaluation writes
it with those recomputed for the weights. Arrays and nothing else: opening it executes nothing.
"""

import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax.serialization import to_state_dict
from flax.traverse_util import flatten_dict, unflatten_dict

from latentjax.runtime import distributed
from latentjax.runtime.errors import RunError
from latentjax.runtime.fileio import open_npz, write_atomic
from latentjax.workdir.records import FORMAT, check_format, checked_image_shape

WEIGHTS_NAME = "model.npz"

COLLECTIONS = ("params", "batch_stats")


class Weights(NamedTuple):
  """What model.npz holds.

  Attributes:
    steps: of every seed.
    variables: nested dictionaries of arrays of all seeds, with a leading axis S also where there is one.
  """

  image_shape: tuple[int, int, int]
  steps: list[int]
  variables: dict[str, Any]


class BestWeights:
  """model.npz of a run in training, with every seed's weights at its best epoch so far.

  Of several processes all make the same calls, and only the first reads and writes the file.

  Args:
    workdir: a model.npz in it is taken over if it fits the run.
    image_shape: (H, W, C).
    seeds: of the run.
    state: a `TrainState` of the run, for its shapes.

  Attributes:
    steps: of every seed whose weights are there, None for the others.
  """

  def __init__(self, workdir: Path, image_shape: Sequence[int], seeds: Sequence[int], state: Any):
    self._workdir, self._image_shape, self._seeds = workdir, image_shape, seeds
    self._variables: list[dict[str, Any] | None] = [None] * len(seeds)
    self.steps: list[int | None] = distributed.on_process_zero(lambda: self._read(state))

  def update(self, state: Any, best: Sequence[int]) -> None:
    """Writes the weights of the seeds that are at their best in a state, and keeps those of the others.

    Args:
      best: for every seed the step of its best epoch, see `Checkpoints.best`.

    Raises:
      RunError: the disk refuses.
    """
    step = int(state.step)
    new = [index for index, held in enumerate(self.steps) if held != step == best[index]]
    if new:
      self.steps = [step if index in new else held for index, held in enumerate(self.steps)]
      variables = distributed.first_shard(state.variables)
      distributed.on_process_zero(lambda: self._write(new, jax.device_get(variables)))

  def _read(self, state: Any) -> list[int | None]:
    try:
      saved = read_weights(self._workdir)
    except RunError:  # damaged: it is written anew
      saved = None
    expected = describe(to_state_dict(state.variables), 1 if len(self._seeds) > 1 else 0)
    if saved is None or len(saved.steps) != len(self._seeds) or describe(saved.variables, 1) != expected:
      return [None] * len(self._seeds)
    self._variables = [_of_seed(saved.variables, index) for index in range(len(self._seeds))]
    return saved.steps

  def _write(self, new: Sequence[int], variables: Any) -> None:
    variables = to_state_dict(variables)
    if len(self._seeds) == 1:
      variables = jax.tree.map(lambda x: x[None], variables)
    for index in new:
      self._variables[index] = _of_seed(variables, index)
    if None not in self.steps:
      write_weights(self._workdir, self._image_shape, self._seeds, self.steps, self._variables)


def _of_seed(variables: dict[str, Any], index: int) -> dict[str, Any]:
  # A copy: on a CPU an array of NumPy may be a view of a buffer that the next step overwrites.
  return jax.tree.map(lambda x: np.array(x[index]), variables)


def write_weights(
  workdir: Path, image_shape: Sequence[int], seeds: Sequence[int], steps: Sequence[int], variables
) -> None:
  """Writes model.npz whole or not at all.

  Args:
    variables: a sequence of every seed's.

  Raises:
    RunError: the disk refuses.
  """
  stacked = jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *variables)
  file = io.BytesIO()
  np.savez(
    file,
    format=FORMAT,
    image_shape=np.array(image_shape),
    seed=np.array(seeds),
    step=np.array(steps),
    **flatten_dict(to_state_dict(stacked), sep="/"),
  )
  write_atomic(workdir / WEIGHTS_NAME, file.getvalue())


def read_weights(workdir: Path) -> Weights | None:
  """What `write` wrote, or None if there is no such file.

  Raises:
    RunError: it cannot be read, is damaged, or of a later format.
  """
  path = workdir / WEIGHTS_NAME
  if not path.exists():
    return None
  with open_npz(path, partial(damaged_error, path)) as arrays:
    found, number = dict(arrays), int(arrays["format"])
  check_format(path, number)
  try:
    image_shape, steps = checked_image_shape(found["image_shape"].tolist()), found["step"].tolist()
    if not (isinstance(steps, list) and all(isinstance(step, int) for step in steps)):
      raise ValueError(f"step is {steps!r}")
    flat = {name: array for name, array in found.items() if name.startswith(COLLECTIONS)}
    if not all(np.isfinite(array).all() for array in flat.values()):
      raise ValueError("some weights are no numbers")
    variables = {collection: {} for collection in COLLECTIONS} | unflatten_dict(flat, sep="/")
    return Weights(image_shape, steps, variables)
  except Exception as error:
    raise damaged_error(path, str(error)) from None


def describe(variables: dict, first_axis: int) -> dict[tuple[str, ...], tuple]:
  """Returns name, shape from an axis on, and type of every array."""
  return {name: (array.shape[first_axis:], array.dtype) for name, array in flatten_dict(variables).items()}


def damaged_error(path: Path, reason: str) -> RunError:
  return RunError(f"{path} is damaged ({reason}): delete it, and --mode=evaluate writes it anew")
