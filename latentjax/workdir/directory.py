"""The working directory of a run, and the lock on it."""

import datetime
import errno
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
  """Returns the directory that the command line names, which need not exist; None where it names none.

  Raises:
    UsageError: it is a URL, or a file.
  """
  if workdir is None:
    return None
  if re.match(r"[a-z][a-z0-9+.-]*://", workdir):
    raise UsageError(f"{workdir} is no directory of this machine. Mount it, or train elsewhere and copy the run.")
  path = expand_user(workdir)
  if path.exists() and not path.is_dir():
    raise UsageError(f"{workdir} is no directory. Choose another --workdir.")
  return path


def create_workdir(name: str) -> Path:
  """Makes a directory under runs/ named after what it holds and the time, such as runs/draw-demo-20261231-235959.

  Runs that start in the same second get one each: -2, -3 and so on.

  Raises:
    RunError: the disk refuses.
  """
  name = f"{name}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
  try:
    Path("runs").mkdir(exist_ok=True)
    for number in itertools.count(1):
      workdir = Path("runs", name if number == 1 else f"{name}-{number}")
      with suppress(FileExistsError):
        workdir.mkdir()
        return workdir
  except OSError as error:
    raise RunError(
      f"cannot create a directory under {Path.cwd() / 'runs'} ({error.strerror}): give a --workdir"
    ) from None
  raise AssertionError


def remove_if_empty(workdir: Path) -> None:
  """Removes it if nothing was written there, and runs/ with it: what came to nothing leaves nothing."""
  with suppress(OSError):
    workdir.rmdir()
    workdir.parent.rmdir()


class WorkdirLock:
  """Holds the file `lock` of a workdir; its death, of whatever kind, releases it. Use as a context manager.

  Of several processes that are one run the first holds it.

  Args:
    workdir: created if need be.

  Raises:
    RunError: another process holds it, or the workdir cannot be created.
  """

  def __init__(self, workdir: Path):
    self._file = None
    distributed.on_process_zero(lambda: self._take(workdir))

  def _take(self, workdir: Path) -> None:
    try:
      workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
      raise RunError(f"cannot create {workdir} ({error.strerror}): choose another --workdir") from None
    try:
      self._file = (workdir / "lock").open("a+")
    except OSError as error:
      raise RunError(f"cannot write to {workdir} ({error.strerror}): choose another --workdir") from None
    try:
      fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      self._file.seek(0)
      holder = self._file.read(200).strip() or "another process"
      self._file.close()
      raise RunError(f"{holder} is at work in {workdir}: wait for it, or choose another --workdir") from None
    except OSError as error:
      if error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
        raise
      console.print(f"this file system locks no files: let nothing else train in {workdir}")
    self._file.truncate(0)
    self._file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    self._file.flush()

  def __enter__(self) -> "WorkdirLock":
    return self

  def __exit__(self, *_) -> None:
    if self._file is not None:
      self._file.close()
