"""model.npz: what a run was evaluated with, in one file that opens without its data, checkpoints or Orbax.

    format            as of config.json
    image_shape       H, W, C
    seed, step        [S] of every seed, and at which step of its training
    params/...        float32 [S, ...]: the weights, averaged if the run averages them, by the path of their names
    batch_stats/...   the same of batch norm's statistics, recomputed for these weights; none without batch norm

Arrays and nothing else: opening it executes nothing.
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

from latentjax import npz
from latentjax.errors import RunError
from latentjax.workdir.checks import checked_image_shape
from latentjax.workdir.record import FORMAT, require_format, write_whole

NAME = "model.npz"
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


def write(workdir: Path, image_shape: Sequence[int], seeds: Sequence[int], steps: Sequence[int], variables) -> None:
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
  write_whole(workdir / NAME, file.getvalue())


def read(workdir: Path) -> Weights | None:
  """What `write` wrote, or None if there is no such file.

  Raises:
    RunError: it cannot be read, is damaged, or of a later format.
  """
  path = workdir / NAME
  if not path.exists():
    return None
  with npz.opened(path, partial(damaged, path)) as arrays:
    found, number = dict(arrays), int(arrays["format"])
  require_format(path, number)
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
    raise damaged(path, str(error)) from None


def damaged(path: Path, reason: str) -> RunError:
  return RunError(f"{path} is damaged ({reason}): delete it, and --mode=evaluate writes it anew")
