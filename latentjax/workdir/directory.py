"""Directories of runs: the one that the user names, or a new one under runs/."""

import datetime
import itertools
import re
from contextlib import suppress
from pathlib import Path

from latentjax.errors import RunError, UsageError
from latentjax.paths import expanded


def given(workdir: str | None) -> Path | None:
  """Returns the directory that the command line names, which need not exist; None where it names none.

  Raises:
    UsageError: it is a URL, or a file.
  """
  if workdir is None:
    return None
  if re.match(r"[a-z][a-z0-9+.-]*://", workdir):
    raise UsageError(f"{workdir} is no directory of this machine. Mount it, or train elsewhere and copy the run.")
  path = expanded(workdir)
  if path.exists() and not path.is_dir():
    raise UsageError(f"{workdir} is no directory. Choose another --workdir.")
  return path


def create(name: str) -> Path:
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


def discard_empty(workdir: Path) -> None:
  """Removes it if nothing was written there, and runs/ with it: what came to nothing leaves nothing."""
  with suppress(OSError):
    workdir.rmdir()
    workdir.parent.rmdir()
