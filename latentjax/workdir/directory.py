"""Working directory of a run, and the lock on it."""

import datetime
import fcntl
import itertools
import os
import re
import socket
from contextlib import suppress
from pathlib import Path

from latentjax.runtime import distributed
from latentjax.runtime.console import console
from latentjax.runtime.errors import RunError, UsageError
from latentjax.runtime.fileio import expand_user


def parse_workdir(workdir: str | None) -> Path | None:
  """Returns the directory of --workdir, which need not exist; raises if it is a URL, a file or unreadable."""
  if workdir is None:
    return None
  if re.match(r"[a-z][a-z0-9+.-]*://", workdir):
    raise UsageError(f"{workdir} is a URL, not a local directory. Mount it, or train elsewhere and copy the run.")
  path = expand_user(workdir)
  try:
    if path.exists() and not path.is_dir():
      raise UsageError(f"{workdir} is not a directory. Choose another --workdir.")
    (path / "config.json").exists()
  except OSError as error:
    raise RunError(f"Cannot read {workdir} ({error.strerror}). Choose another --workdir.") from None
  return path


def create_workdir(name: str) -> Path:
  """Creates a directory such as runs/draw-demo-20261231-235959; others of the same second end in -2, -3, ..."""
  runs, name = Path("runs"), f"{name}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
  try:
    runs.mkdir(exist_ok=True)
    for number in itertools.count(1):
      workdir = runs / (f"{name}-{number}" if number > 1 else name)
      with suppress(FileExistsError):
        workdir.mkdir()
        return workdir
  except OSError as error:
    raise RunError(f"Cannot create a directory under {runs.absolute()} ({error.strerror}). Give a --workdir.") from None


def remove_if_empty(workdir: Path) -> None:
  """Removes the workdir, and `runs/`, if empty."""
  with suppress(OSError):
    workdir.rmdir()
    workdir.parent.rmdir()


class WorkdirLock:
  """Holds an exclusive lock on the workdir; released when the process exits, however it exits.

  A context manager. All processes of a run construct it; process 0 creates the workdir if missing and holds the lock.
  """

  def __init__(self, workdir: Path):
    self._file = None
    distributed.on_process_zero(lambda: self._acquire(workdir))

  def _acquire(self, workdir: Path) -> None:
    try:
      workdir.mkdir(parents=True, exist_ok=True)
      self._file = (workdir / "lock").open("a+")
    except OSError as error:
      raise RunError(f"Cannot write to {workdir} ({error.strerror}). Choose another --workdir.") from None
    try:
      fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      self._file.seek(0)
      holder = self._file.read(200).strip() or "Another process"
      self._file.close()
      raise RunError(f"{holder} is using {workdir}. Wait for it to finish, or choose another --workdir.") from None
    except OSError as error:
      console.print(f"Cannot lock {workdir} ({error.strerror}). Start no other training there.")
    self._file.truncate(0)
    self._file.write(f"Process {os.getpid()} on {socket.gethostname()}\n")
    self._file.flush()

  def __enter__(self) -> "WorkdirLock":
    return self

  def __exit__(self, *_) -> None:
    if self._file is not None:
      self._file.close()
