"""Checkpoints of a run: the newest and the best, each with a manifest of SHA-256 digests."""

import errno
import hashlib
import json
import os
import re
import shutil
import textwrap
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from latentjax.runtime import distributed
from latentjax.runtime.console import console
from latentjax.runtime.errors import RunError
from latentjax.runtime.fileio import write_atomic

MANIFEST_NAME = "manifest.json"


def write_manifest(directory: Path, bound: float | list[float] | None) -> None:
  """Writes the validation bound of a checkpoint and the digest of every file in it.

  Args:
    directory: Of the checkpoint.
    bound: One per seed if there are several; None in mid-epoch.
  """
  content = {"elbo": bound, "sha256": file_digests(directory)}
  write_atomic(directory / MANIFEST_NAME, json.dumps(content | {"seal": manifest_digest(content)}, indent=2) + "\n")


def verify_manifest(directory: Path) -> float | list[float] | None:
  """Returns the validation bound of an intact checkpoint.

  Raises:
    OSError, ValueError: A file is missing or has changed; the message names it.
  """
  try:
    content = json.loads((directory / MANIFEST_NAME).read_text(encoding="utf-8"))
    intact = content.pop("seal") == manifest_digest(content)
  except FileNotFoundError:
    raise ValueError(f"{MANIFEST_NAME} is missing") from None
  except (ValueError, KeyError, TypeError, AttributeError):
    intact = False
  if not intact:
    raise ValueError(f"{MANIFEST_NAME} has changed")
  found = file_digests(directory)
  for name, digest in content["sha256"].items():
    if found.get(name) != digest:
      raise ValueError(f"{name} {'has changed' if name in found else 'is missing'}")
  return content["elbo"]


def file_digests(directory: Path) -> dict[str, str]:
  """Returns the SHA-256 of every file in a checkpoint but its manifest."""
  digests = {}
  for path in sorted(directory.rglob("*")):
    if path.is_file() and path.name != MANIFEST_NAME:
      with path.open("rb") as file:
        digests[str(path.relative_to(directory))] = hashlib.file_digest(file, "sha256").hexdigest()
  return digests


def manifest_digest(content: dict[str, Any]) -> str:
  return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


NUM_NEWEST = 2  # checkpoints kept besides the best: one to resume from, and one in case that is damaged


class Checkpointer:
  """Saves and restores the two newest checkpoints and, for every seed, the one with the best validation bound.

  The bound is the importance-weighted one if that is trained. Saving is synchronous, since the buffers of the state are
  donated to the next training call. All processes make the same calls; process 0 does all I/O.

  Args:
    directory: `checkpoints/` of a workdir; created if missing.
    read_only: Change no file, so that a training in progress is not disturbed.

  Raises:
    RunError: The directory cannot be created.
  """

  def __init__(self, directory: Path, read_only: bool = False):
    self.directory = directory.absolute()
    primary = ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0}, barrier_sync_key_prefix="first")
    handler = ocp.StandardCheckpointHandler(multiprocessing_options=primary)
    self._orbax = ocp.Checkpointer(handler, multiprocessing_options=primary)
    self._bounds: dict[int, float | list[float] | None] = {}  # of intact checkpoints
    self._damaged: set[int] = set()
    self._unread: set[int] = set()  # a temporary failure of the disk damages nothing
    if not read_only:
      distributed.on_process_zero(self._prepare)

  @property
  def latest_step(self) -> int | None:
    """Step of the newest intact checkpoint, or None. Damaged checkpoints are reported and ignored.

    Raises:
      RunError: There are checkpoints, but none is intact.
    """
    return distributed.on_process_zero(lambda: max(self._valid_checkpoints(), default=None))

  @property
  def best_steps(self) -> list[int]:
    """Step of the best intact checkpoint of every seed, the first of equals; empty before the first validation.

    Raises:
      RunError: See `latest_step`.
    """
    return distributed.on_process_zero(self._best_steps)

  def save(self, state: Any, bound: float | list[float] | None = None, partial: Any = None) -> None:
    """Saves a state, then removes checkpoints that are neither among the newest nor the best.

    Args:
      state: A pytree with a field `step`.
      bound: Validation bound in nats, one per seed if there are several. None in mid-epoch: never the best.
      partial: A pytree to save beside the state.

    Raises:
      RunError: The disk refuses; earlier checkpoints are intact.
    """
    distributed.on_process_zero(lambda: self._save(_to_host(state), bound, _to_host(partial)))

  def _prepare(self) -> None:
    try:
      self.directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
      raise RunError(f"Cannot create {self.directory} ({error.strerror}). Choose another --workdir.") from None
    for unfinished in self.directory.glob("*.unfinished"):  # of a killed run
      step, removed = unfinished.with_suffix(""), unfinished.with_suffix(".removed")
      if removed.exists() and not step.exists():  # killed between the two renames of `_save`
        removed.replace(step)
    for suffix in (".unfinished", ".removed"):
      for path in self.directory.glob(f"*{suffix}"):
        shutil.rmtree(path, ignore_errors=True)

  def _best_steps(self) -> list[int]:
    bounds = {step: np.atleast_1d(bound) for step, bound in self._valid_checkpoints().items() if bound is not None}
    steps = list(bounds)
    return [steps[index] for index in np.argmax(list(bounds.values()), axis=0)] if bounds else []

  def _save(self, state: Any, bound: float | list[float] | None, partial: Any) -> None:
    step = int(state.step)
    path, unfinished = self.directory / str(step), self.directory / f"{step}.unfinished"
    try:
      needed, free = sum(leaf.nbytes for leaf in jax.tree.leaves(state)), shutil.disk_usage(self.directory).free
      if needed > free:  # Orbax would fail too, with a longer message
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {needed:,} bytes needed, {free:,} free")
      self._orbax.save(unfinished / "state", args=ocp.args.StandardSave(state), force=True)
      if partial is not None:
        self._orbax.save(unfinished / "partial", args=ocp.args.StandardSave(partial), force=True)
      write_manifest(unfinished, bound)
      replaced = self._retire(step)
      unfinished.replace(path)
      shutil.rmtree(replaced, ignore_errors=True)
    except Exception as error:  # a full disk is an OSError, ValueError or RuntimeError, depending on the library
      _remove_tree(unfinished)
      reason = _error_reason(error)
      raise RunError(f"Cannot write a checkpoint to {self.directory} ({reason}). Earlier ones are intact.") from None
    self._bounds[step] = bound
    newest = sorted(self._valid_checkpoints())[-NUM_NEWEST:]
    for old in set(self._steps()) - {*self._best_steps(), *newest, *self._unread}:
      shutil.rmtree(self._retire(old), ignore_errors=True)

  def restore(self, step: int, target: Any) -> Any:
    """Returns the state saved at a step.

    Args:
      step: Of an intact checkpoint.
      target: A pytree of the same structure, shapes and types.

    Raises:
      RunError: The checkpoint cannot be read or does not match the target.
    """
    return self._restore(step, "state", target)

  def restore_partial(self, step: int, target: Any) -> Any | None:
    """Returns the pytree saved beside the state, or None; see `restore`."""
    exists = distributed.on_process_zero(lambda: (self.directory / str(step) / "partial").exists())
    return self._restore(step, "partial", target) if exists else None

  def _restore(self, step: int, name: str, target: Any) -> Any:
    restored = target

    def read() -> None:
      nonlocal restored
      restored = self._read(step, name, _to_host(target))

    distributed.on_process_zero(read)
    return distributed.broadcast(restored)

  def _read(self, step: int, name: str, target: Any) -> Any:
    path = self.directory / str(step)
    try:
      difference = _compare_trees(self._orbax.metadata(path / name).item_metadata.tree, target)
      if difference is None:
        return self._orbax.restore(path / name, args=ocp.args.StandardRestore(target))
    except Exception as error:  # Orbax raises many kinds, for files of another version or files that vanish
      reason = _error_reason(error) if path.exists() else "a training has just replaced it, try again"
      raise RunError(f"Cannot read the checkpoint of step {step} in {self.directory} ({reason}).") from None
    raise RunError(
      f"The checkpoint of step {step} in {self.directory} does not fit the config: {difference}. Restore the"
      " config.json of the run, or use the version of latentjax that wrote the checkpoint."
    )

  def _steps(self) -> list[int]:
    if not self.directory.is_dir():
      return []
    return sorted(int(path.name) for path in self.directory.iterdir() if path.name.isdecimal())

  def _valid_checkpoints(self) -> dict[int, float | list[float] | None]:
    """Returns the validation bound of every intact checkpoint by its step, ascending."""
    steps = self._steps()
    for step in steps:
      if step not in {*self._bounds, *self._damaged, *self._unread}:
        try:
          self._bounds[step] = verify_manifest(self.directory / str(step))
        except (OSError, ValueError) as error:
          unread = isinstance(error, OSError)
          if (self.directory / str(step)).exists():  # else a training has just removed it
            problem = "cannot be read" if unread else "is damaged"
            console.print(f"Ignoring the checkpoint of step {step}, which {problem} ({error}).")
          (self._unread if unread else self._damaged).add(step)
    valid = {step: self._bounds[step] for step in steps if step in self._bounds}
    if steps and not valid:
      raise RunError(f"No checkpoint in {self.directory} is intact. Restore one, or choose another --workdir.")
    return valid

  def _retire(self, step: int) -> Path:
    """Renames a checkpoint, if it exists, for removal, so that no step ever holds a part of one."""
    path, removed = self.directory / str(step), self.directory / f"{step}.removed"
    if path.exists():
      path.replace(removed)
    for known in (self._damaged, self._unread):
      known.discard(step)
    self._bounds.pop(step, None)
    return removed


def _remove_tree(directory: Path) -> None:
  """Removes a directory, retrying while Orbax's writer threads are still alive."""
  for _ in range(50):
    shutil.rmtree(directory, ignore_errors=True)
    if not directory.exists():
      return
    time.sleep(0.1)


def _to_host(tree: Any) -> Any:
  """Returns NumPy arrays in a multi-process run, where Orbax would save JAX's in all processes together."""
  return tree if jax.process_count() == 1 else jax.device_get(tree)


def _compare_trees(saved: Any, target: Any) -> str | None:
  """Returns the first difference in name, shape or type, or None.

  Orbax checks too, but each of its other threads would print a traceback.
  """
  found, expected = _tree_shapes(saved), _tree_shapes(target)
  for name in {**expected, **found}:
    if name not in found:
      return f"it lacks {name}"
    if name not in expected:
      return f"{name} is not in the model"
    if found[name] != expected[name]:
      return f"{name} is {found[name]}, but {expected[name]} in the model"
  return None


def _tree_shapes(tree: Any) -> dict[str, str]:
  """Returns type and shape of every array, such as {"params.decoder.bias": "float32[8]"}."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves]
  arrays = [leaf if hasattr(leaf, "dtype") else np.asarray(leaf) for _, leaf in leaves]
  return {name: f"{leaf.dtype}{list(leaf.shape)}" for name, leaf in zip(names, arrays, strict=True)}


def _error_reason(error: Exception) -> str:
  """Returns one line: the operating system's message if the error carries one."""
  number = re.search(r"os_error_code='(\d+)'", str(error))  # TensorStore puts it at the end of a long text
  if number:
    return os.strerror(int(number[1]))
  if isinstance(error, OSError) and error.strerror:
    return error.strerror
  return textwrap.shorten(f"{type(error).__name__}: {error}", 160)
