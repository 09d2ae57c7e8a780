"""The manifest of a checkpoint: its validation bound, and the SHA-256 of every file in it and of itself."""

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
  """Seals a checkpoint: `verify` tells whether anything in it has changed since.

  Args:
    bound: on validation, a list where there are several seeds, or None in mid-epoch.
  """
  content = {
    "elbo": bound,
    "sha256": file_digests(directory),
  }  # under the name that it had when there was no other bound
  write_atomic(directory / MANIFEST_NAME, json.dumps(content | {"seal": manifest_digest(content)}, indent=2) + "\n")


def verify_manifest(directory: Path) -> float | list[float] | None:
  """The validation bound of a checkpoint as it was written.

  Raises:
    OSError, ValueError: a file is missing, or is not what was written; the message names it.
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
  """SHA-256 of every file in a checkpoint but its manifest."""
  sums = {}
  for path in sorted(directory.rglob("*")):
    if path.is_file() and path.name != MANIFEST_NAME:
      with path.open("rb") as file:
        sums[str(path.relative_to(directory))] = hashlib.file_digest(file, "sha256").hexdigest()
  return sums


def manifest_digest(content: dict[str, Any]) -> str:
  return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


NUM_NEWEST = 2  # checkpoints kept besides the best: one to go on from, and one in case it is damaged


class Checkpointer:
  """The folder `checkpoints/` of a workdir: the two newest and every seed's best by the validation bound, the
  importance-weighted one where that is trained.

  Saving is synchronous: the state's buffers are donated to the next training call, so nothing may still
  read them by then. Of several processes that are one run only the first reads and writes, and all get what it read.

  Args:
    directory: created if need be.
    read_only: change nothing in it, so that a training that writes there now is not disturbed.

  Raises:
    RunError: the directory cannot be created.
  """

  def __init__(self, directory: Path, read_only: bool = False):
    self.directory = directory.absolute()
    primary = ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0}, barrier_sync_key_prefix="first")
    handler = ocp.StandardCheckpointHandler(multiprocessing_options=primary)
    self._orbax = ocp.Checkpointer(handler, multiprocessing_options=primary)
    self._bounds: dict[int, float | list[float] | None] = {}  # of the checkpoints found whole
    self._damaged: set[int] = set()
    self._unread: set[int] = set()  # a disk that fails for a moment has not damaged them
    if not read_only:
      distributed.on_process_zero(self._prepare)

  @property
  def latest_step(self) -> int | None:
    """Step of the newest whole checkpoint, or None; damaged ones are reported and passed over.

    Raises:
      RunError: there are checkpoints, but none is whole.
    """
    return distributed.on_process_zero(lambda: max(self._valid_checkpoints(), default=None))

  @property
  def best(self) -> list[int]:
    """For every seed the step of the whole checkpoint with its highest validation bound, the first of equal ones.

    Empty before the first validation; raises as `newest` does.
    """
    return distributed.on_process_zero(self._best)

  def save(self, state: Any, bound: float | list[float] | None = None, partial: Any = None) -> None:
    """Keeps a state, then removes what is neither among the newest nor the best.

    Args:
      state: a pytree with a field `step`.
      bound: on validation, in nats, a list of every seed's where there are several; None in mid-epoch, where the state
        cannot be the best.
      partial: a pytree to keep beside the state.

    Raises:
      RunError: the disk refuses; earlier checkpoints stay.
    """
    distributed.on_process_zero(lambda: self._save(to_host(state), bound, to_host(partial)))

  def _prepare(self) -> None:
    try:
      self.directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
      raise RunError(f"cannot create {self.directory} ({error.strerror}): choose another --workdir") from None
    for unfinished in self.directory.glob("*.unfinished"):  # what a killed run was at
      step, removed = unfinished.with_suffix(""), unfinished.with_suffix(".removed")
      if removed.exists() and not step.exists():  # between putting the one aside and the other in its place
        removed.replace(step)
    for suffix in (".unfinished", ".removed"):
      for path in self.directory.glob(f"*{suffix}"):
        shutil.rmtree(path, ignore_errors=True)

  def _best(self) -> list[int]:
    bounds = {step: np.atleast_1d(bound) for step, bound in self._valid_checkpoints().items() if bound is not None}
    steps = list(bounds)
    return [steps[index] for index in np.argmax(list(bounds.values()), axis=0)] if bounds else []

  def _save(self, state: Any, bound: float | list[float] | None, partial: Any) -> None:
    step = int(state.step)
    path, unfinished = self.directory / str(step), self.directory / f"{step}.unfinished"
    try:
      needed, free = sum(leaf.nbytes for leaf in jax.tree.leaves(state)), shutil.disk_usage(self.directory).free
      if needed > free:  # Orbax would find out too, but not in one line
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: it needs {needed:,} bytes of the {free:,} left")
      self._orbax.save(unfinished / "state", args=ocp.args.StandardSave(state), force=True)
      if partial is not None:
        self._orbax.save(unfinished / "partial", args=ocp.args.StandardSave(partial), force=True)
      write_manifest(unfinished, bound)
      replaced = self._retire(step)
      unfinished.replace(path)
      shutil.rmtree(replaced, ignore_errors=True)
    except Exception as error:  # a full disk is OSError, ValueError or RuntimeError, by who meets it
      remove_tree(unfinished)
      raise RunError(
        f"cannot write a checkpoint to {self.directory} ({error_reason(error)}); earlier ones stay"
      ) from None
    self._bounds[step] = bound
    for old in set(self._steps()) - {*self._best(), *sorted(self._valid_checkpoints())[-NUM_NEWEST:], *self._unread}:
      shutil.rmtree(self._retire(old), ignore_errors=True)

  def restore(self, step: int, like: Any) -> Any:
    """The state saved at a step, with the structure, shapes and types of `like`.

    Raises:
      RunError: it cannot be read.
    """
    return self._restore(step, "state", like)

  def restore_partial(self, step: int, like: Any) -> Any | None:
    """What was kept beside the state, or None."""
    kept = distributed.on_process_zero(lambda: (self.directory / str(step) / "partial").exists())
    return self._restore(step, "partial", like) if kept else None

  def _restore(self, step: int, name: str, like: Any) -> Any:
    restored = like

    def read() -> None:
      nonlocal restored
      restored = self._read(step, name, to_host(like))

    distributed.on_process_zero(read)
    return distributed.broadcast(restored)

  def _read(self, step: int, name: str, like: Any) -> Any:
    path = self.directory / str(step)
    try:
      misfit = compare_trees(self._orbax.metadata(path / name).item_metadata.tree, like)
      if misfit is None:
        return self._orbax.restore(path / name, args=ocp.args.StandardRestore(like))
    except Exception as error:  # whatever Orbax meets: files of another version, or ones that vanish
      why = error_reason(error) if path.exists() else "a training has just replaced it: try again"
      raise RunError(f"the checkpoint of step {step} in {self.directory} cannot be read ({why})") from None
    raise RunError(
      f"the checkpoint of step {step} in {self.directory} does not fit the config: {misfit}. Restore the config.json"
      " that the run was trained with, or go on with the version of latentjax that wrote it"
    )

  def _steps(self) -> list[int]:
    if not self.directory.is_dir():
      return []
    return sorted(int(path.name) for path in self.directory.iterdir() if path.name.isdecimal())

  def _valid_checkpoints(self) -> dict[int, float | list[float] | None]:
    """The validation bound of every whole checkpoint by its step, ascending."""
    steps = self._steps()
    for step in steps:
      if step not in {*self._bounds, *self._damaged, *self._unread}:
        try:
          self._bounds[step] = verify_manifest(self.directory / str(step))
        except (OSError, ValueError) as error:
          unread = isinstance(error, OSError)
          if (self.directory / str(step)).exists():  # else a training beside this has just removed it
            console.print(
              f"the checkpoint of step {step} {'cannot be read' if unread else 'is damaged'} ({error}): passing over it"
            )
          (self._unread if unread else self._damaged).add(step)
    whole = {step: self._bounds[step] for step in steps if step in self._bounds}
    if steps and not whole:
      raise RunError(f"no checkpoint in {self.directory} is whole: restore one, or choose another --workdir")
    return whole

  def _retire(self, step: int) -> Path:
    """Renames a checkpoint, if it is there, to be removed: at no moment is half of one in its place."""
    path, removed = self.directory / str(step), self.directory / f"{step}.removed"
    if path.exists():
      path.replace(removed)
    for known in (self._damaged, self._unread):
      known.discard(step)
    self._bounds.pop(step, None)
    return removed


def remove_tree(directory: Path) -> None:
  """Removes a directory into which threads of Orbax may still be writing: they outlive the failure that it reports."""
  for _ in range(50):
    shutil.rmtree(directory, ignore_errors=True)
    if not directory.exists():
      return
    time.sleep(0.1)


def to_host(tree: Any) -> Any:
  """In one of several processes arrays of NumPy: those of JAX it would save and restore in all of them together."""
  return tree if jax.process_count() == 1 else jax.device_get(tree)


def compare_trees(saved: Any, like: Any) -> str | None:
  """In what a checkpoint is not a tree of the shapes and types of `like`, by the first name; None if it is one.

  Orbax would find out too, array by array, and leave the other threads' tasks behind with a traceback each.
  """
  there, here = tree_shapes(saved), tree_shapes(like)
  for name in {**here, **there}:
    if name not in there:
      return f"{name} is missing in it"
    if name not in here:
      return f"it has {name}, which the config has not"
    if there[name] != here[name]:
      return f"{name} is {there[name]} in it and {here[name]} by the config"
  return None


def tree_shapes(tree: Any) -> dict[str, str]:
  """Shape and type of every array of a nested dict, such as {"params.decoder.bias": "float32[8]"}."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves]
  arrays = [leaf if hasattr(leaf, "dtype") else np.asarray(leaf) for _, leaf in leaves]
  return {name: f"{leaf.dtype}{list(leaf.shape)}" for name, leaf in zip(names, arrays, strict=True)}


def error_reason(error: Exception) -> str:
  """What went wrong, in one line: the operating system's word where an error carries one."""
  number = re.search(r"os_error_code='(\d+)'", str(error))  # TensorStore has it at the end of a long story
  if number:
    return os.strerror(int(number[1]))
  if isinstance(error, OSError) and error.strerror:
    return error.strerror
  return textwrap.shorten(f"{type(error).__name__}: {error}", 160)
