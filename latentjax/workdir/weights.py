"""Trained weights of a run, in one safetensors file per seed that needs no data, checkpoints or Orbax.

    params/...        float32 parameters (their moving average if the run has one), by path
    batch_stats/...   float32 batch-norm statistics; none without batch norm

Its metadata are format (see `records.FORMAT`), image_shape (H, W, C as JSON), seed, and the training step. Training
writes it after every epoch that is the best so far, with the running batch-norm statistics; the evaluation writes it
with statistics recomputed for the parameters. float16 is read as float32.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax.serialization import to_state_dict
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.numpy import load, save

from latentjax.runtime import distributed
from latentjax.runtime.errors import damaged, error_reason, unreadable
from latentjax.runtime.fileio import write_atomic
from latentjax.workdir.records import FORMAT, check_format

SUFFIX = ".safetensors"
COLLECTIONS = ("params", "batch_stats")
ADVICE = "Delete it; `latentjax evaluate` writes it again"  # for a damaged file


class Weights(NamedTuple):
  """Content of a weights file."""

  image_shape: tuple[int, int, int]
  step: int  # of training
  variables: dict[str, Any]  # collections of float32 arrays


def weights_name(num_seeds: int, index: int = 0) -> str:
  """Returns the file name of a seed's weights: model.safetensors, or model-INDEX.safetensors of one of several."""
  return f"model{SUFFIX}" if num_seeds == 1 else f"model-{index}{SUFFIX}"


class BestWeights:
  """Writes the weights of a run in training, of every seed at its best epoch so far."""

  def __init__(self, workdir: Path, image_shape: Sequence[int], seeds: Sequence[int]):
    self._workdir, self._image_shape, self._seeds = workdir, image_shape, seeds
    self._steps: list[int | None] = [None] * len(seeds)

  def update(self, state: Any, best_steps: Sequence[int]) -> None:
    """Writes the weights of the seeds for which a `TrainState` is the best so far; see `Checkpointer.best_steps`."""
    step, count = int(state.step), len(self._seeds)
    new = [index for index, current in enumerate(self._steps) if current != step == best_steps[index]]
    if not new:
      return
    variables = jax.device_get(distributed.first_shard(state.variables))

    def write() -> None:
      for index in new:
        own = variables if count == 1 else jax.tree.map(lambda x, i=index: x[i], variables)
        path = self._workdir / weights_name(count, index)
        write_weights(path, self._image_shape, self._seeds[index], step, own)

    distributed.on_process_zero(write)
    for index in new:
      self._steps[index] = step


def write_weights(path: Path, image_shape: Sequence[int], seed: int, step: int, variables: Any) -> None:
  """Writes the variables of a seed atomically; the same ones give the same bytes."""
  flat = flatten_dict(to_state_dict(variables), sep="/")
  arrays = {name: np.asarray(array, order="C") for name, array in flat.items()}  # safetensors writes memory as it is
  metadata = {"format": FORMAT, "image_shape": [*map(int, image_shape)], "seed": int(seed), "step": int(step)}
  header, buffers = _split(save(arrays, {name: json.dumps(value) for name, value in metadata.items()}))
  text = json.dumps(header, sort_keys=True).encode()  # safetensors writes the metadata in random order
  text += b" " * (-len(text) % 8)
  write_atomic(path, len(text).to_bytes(8, "little") + text + buffers)


def read_weights(path: Path) -> Weights | None:
  """Returns the content of a weights file, or None if it is missing; raises RunError if it cannot be used."""
  try:
    content = path.read_bytes()
  except FileNotFoundError:
    return None
  except OSError as error:
    raise unreadable(path, error) from None
  try:
    metadata = _split(content)[0]["__metadata__"]
    number = int(metadata["format"])
  except Exception as error:  # a foreign file may have anything there
    raise damaged(path, ADVICE, error_reason(error)) from None
  check_format(path, number)
  try:
    height, width, channels = map(int, json.loads(metadata["image_shape"]))
    flat = {name: array for name, array in load(content).items() if name.startswith(COLLECTIONS)}
    flat = {name: array.astype(np.float32) if array.dtype == np.float16 else array for name, array in flat.items()}
    if not all(np.isfinite(array).all() for array in flat.values()):
      raise ValueError("some weights are not finite")
    variables = {collection: {} for collection in COLLECTIONS} | unflatten_dict(flat, sep="/")
    return Weights((height, width, channels), int(metadata["step"]), variables)
  except Exception as error:
    raise damaged(path, ADVICE, error_reason(error)) from None


def describe(variables: dict) -> dict[tuple[str, ...], tuple]:
  """Returns path -> (shape, type) of every array."""
  return {name: (array.shape, array.dtype) for name, array in flatten_dict(variables).items()}


def _split(content: bytes) -> tuple[dict[str, Any], bytes]:
  """Returns the JSON object at the head of a safetensors file, after its size in eight bytes, and all that follows."""
  start = 8 + int.from_bytes(content[:8], "little")
  return json.loads(content[8:start]), content[start:]
