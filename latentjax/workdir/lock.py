"""One run writes to a workdir at a time."""

import errno
import fcntl
import os
import socket
from pathlib import Path

from latentjax import processes
from latentjax.console import console
from latentjax.errors import RunError


class Lock:
  """Holds the file `lock` of a workdir; its death, of whatever kind, releases it. Use as a context manager.

  Of several processes that are one run the first holds it.

  Args:
    workdir: created if need be.

  Raises:
    RunError: another process holds it, or the workdir cannot be created.
  """

  def __init__(self, workdir: Path):
    self._file = None
    processes.on_primary(lambda: self._take(workdir))

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

  def __enter__(self) -> "Lock":
    return self

  def __exit__(self, *_) -> None:
    if self._file is not None:
      self._file.close()
