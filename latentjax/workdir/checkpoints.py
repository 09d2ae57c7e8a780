"""Checkpoints of a run: the newest and the best, each with a manifest of SHA-256 digests."""

import errno
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from latentjax.runtime import distributed
from latentjax.runtime.console import console
from latentjax.runtime.errors import RunError, error_reason
from latentjax.runtime.fileio import dump_json, to_finite, write_atomic

MANIFEST_NAME = "manifest.json"
NUM_NEWEST = 2  # checkpoints kept besides the best: one to resume from, and one in case that is damaged
Bound = float | list[float] | None  # validation bound in nats, one per seed if there are several; None in mid-epoch


class Checkpointer:
  """Saves and restores the two newest checkpoints and, for every seed, the one with the best validation bound.

  The bound is the importance-weighted one if that is trained. Saving is synchronous, since the buffers of the state are
  donated to the next training call. All processes make the same calls; process 0 does all I/O. With `read_only`, no
  file is changed, so that a training in progress is not disturbed.
  """

  def __init__(self, directory: Path, read_only: bool = False):
    self.directory = directory.absolute()
    primary = ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0}, barrier_sync_key_prefix="first")
    handler = ocp.StandardCheckpointHandler(multiprocessing_options=primary)
    self._orbax = ocp.Checkpointer(handler, multiprocessing_options=primary)
    self._bounds: dict[int, Bound] = {}  # of intact checkpoints
    self._ignored: set[int] = set()  # damaged, or not readable at the moment: never removed
    if not read_only:
      distributed.on_process_zero(self._clean_up)

  @property
  def latest_step(self) -> int | None:
    """Step of the newest intact checkpoint, or None; raises RunError if there are checkpoints but none is intact."""
    return distributed.on_process_zero(lambda: max(self._intact_bounds(), default=None))

  @property
  def best_steps(self) -> list[int]:
    """Step of every seed's best intact checkpoint, the first of equals; empty before the first validation."""
    return distributed.on_process_zero(self._best_steps)

  def save(self, state: Any, bound: Bound = None, partial: Any = None) -> None:
    """Saves a state, a pytree with a field `step`, and removes checkpoints neither among the newest nor the best.

    A checkpoint without a bound is never the best; `partial` is a pytree to save beside the state. Raises RunError if
    writing fails.
    """
    distributed.on_process_zero(lambda: self._save(_to_host(state), bound, _to_host(partial)))

  def restore(self, step: int, target: Any, name: str = "state") -> Any:
    """Returns the state saved at a step; raises RunError if it lacks the structure, shapes and types of `target`."""
    restored = target

    def read() -> None:
      nonlocal restored
      restored = self._read(step, name, _to_host(target))

    distributed.on_process_zero(read)
    return distributed.broadcast(restored)

  def restore_partial(self, step: int, target: Any) -> Any | None:
    """Returns the pytree saved beside the state, or None; see `restore`."""
    exists = distributed.on_process_zero(lambda: (self.directory / str(step) / "partial").exists())
    return self.restore(step, target, "partial") if exists else None

  def _clean_up(self) -> None:
    """Removes unfinished files of a killed run or a full disk."""
    self.directory.mkdir(parents=True, exist_ok=True)
    for path in [*self.directory.glob("*.unfinished"), *self.directory.glob("*.removed")]:
      shutil.rmtree(path, ignore_errors=True)

  def _best_steps(self) -> list[int]:
    known = {step: np.atleast_1d(bound) for step, bound in self._intact_bounds().items() if bound is not None}
    steps, bounds = list(known), np.nan_to_num(np.array(list(known.values()), float), nan=-np.inf)
    return [steps[index] for index in bounds.argmax(axis=0)] if steps else []

  def _save(self, state: Any, bound: Bound, partial: Any) -> None:
    step = int(state.step)
    unfinished = self.directory / f"{step}.unfinished"
    try:
      needed, free = sum(leaf.nbytes for leaf in jax.tree.leaves(state)), shutil.disk_usage(self.directory).free
      if needed > free:
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {needed:,} bytes needed, {free:,} free")
      self._orbax.save(unfinished / "state", args=ocp.args.StandardSave(state), force=True)
      if partial is not None:
        self._orbax.save(unfinished / "partial", args=ocp.args.StandardSave(partial), force=True)
      write_manifest(unfinished, bound)
      replaced = self._retire(step)
      unfinished.replace(self.directory / str(step))
      shutil.rmtree(replaced, ignore_errors=True)
    except Exception as error:  # a full disk is an OSError, ValueError or RuntimeError, depending on the library
      shutil.rmtree(unfinished, ignore_errors=True)
      reason = error_reason(error)
      raise RunError(f"Cannot write a checkpoint to {self.directory} ({reason}). Earlier ones are intact.") from None
    self._bounds[step] = bound
    bounds = self._intact_bounds()
    for old in bounds.keys() - {*self._best_steps(), *sorted(bounds)[-NUM_NEWEST:]}:
      shutil.rmtree(self._retire(old), ignore_errors=True)

  def _read(self, step: int, name: str, target: Any) -> Any:
    path = self.directory / str(step)
    try:
      saved, expected = _array_types(self._orbax.metadata(path / name).item_metadata.tree), _array_types(target)
      differing = [array for array in {**expected, **saved} if saved.get(array) != expected.get(array)]
      if not differing:  # else each of Orbax's threads would print a traceback
        return self._orbax.restore(path / name, args=ocp.args.StandardRestore(target))
    except Exception as error:  # Orbax raises many kinds, for files of another version or files that vanish
      reason, advice = error_reason(error), "Restore it, or choose another --workdir"
      if not path.exists():
        reason, advice = "a training has just replaced it", "Try again"
      raise RunError(f"Cannot read the checkpoint of step {step} in {self.directory} ({reason}). {advice}.") from None
    raise RunError(
      f"The checkpoint of step {step} in {self.directory} does not fit the config: {differing[0]} differs. Restore the"
      " config.json of the run, or use the version of latentjax that wrote the checkpoint."
    )

  def _intact_bounds(self) -> dict[int, Bound]:
    """Returns the validation bound of every intact checkpoint by its step, ascending."""
    paths = self.directory.iterdir() if self.directory.is_dir() else []
    steps = sorted(int(path.name) for path in paths if path.name.isdecimal())
    for step in set(steps) - {*self._bounds, *self._ignored}:
      path = self.directory / str(step)
      try:
        self._bounds[step] = verify_manifest(path)
      except Exception as error:  # of many kinds, depending on the damage
        self._ignored.add(step)
        if path.exists():  # else a training has just removed it
          console.print(f"Ignoring the checkpoint of step {step}: {error}")
    intact = {step: self._bounds[step] for step in steps if step in self._bounds}
    if steps and not intact:
      raise RunError(f"No checkpoint in {self.directory} is intact. Restore one, or choose another --workdir.")
    return intact

  def _retire(self, step: int) -> Path:
    """Renames a checkpoint, if it exists, for removal, so that no step ever holds a partial one."""
    path, removed = self.directory / str(step), self.directory / f"{step}.removed"
    if path.exists():
      path.replace(removed)
    self._bounds.pop(step, None)
    self._ignored.discard(step)
    return removed


def write_manifest(directory: Path, bound: Bound) -> None:
  """Writes the validation bound of a checkpoint and the digest of every file in it."""
  files = sorted(path for path in directory.rglob("*") if path.is_file())
  digests = {str(path.relative_to(directory)): _file_digest(path) for path in files}
  content = {"elbo": to_finite(bound), "sha256": digests}
  write_atomic(directory / MANIFEST_NAME, dump_json(content | {"seal": _seal(content)}))


def verify_manifest(directory: Path) -> Bound:
  """Returns the validation bound of an intact checkpoint; raises ValueError or OSError for any other."""
  content = json.loads((directory / MANIFEST_NAME).read_text(encoding="utf-8"))
  if content.pop("seal", None) != _seal(content):
    raise ValueError(f"{MANIFEST_NAME} is damaged")
  for name, digest in content["sha256"].items():
    if _file_digest(directory / name) != digest:
      raise ValueError(f"{name} is damaged")
  return content["elbo"]


def _file_digest(path: Path) -> str:
  with path.open("rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def _seal(content: dict[str, Any]) -> str:
  return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _to_host(tree: Any) -> Any:
  """Returns NumPy arrays in a multi-process run, where Orbax would save JAX's in all processes together."""
  return tree if jax.process_count() == 1 else jax.device_get(tree)


def _array_types(tree: Any) -> dict[str, tuple]:
  """Returns shape and dtype of every array by its path, such as params.decoder.bias."""
  types = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    array = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
    types[jax.tree_util.keystr(path, simple=True, separator=".")] = (tuple(array.shape), array.dtype)
  return types
