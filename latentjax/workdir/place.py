"""Where a run lives that was given no place."""

import datetime
import itertools
from contextlib import suppress
from pathlib import Path


def create(name: str) -> Path:
  """Makes a directory under runs/ named after what it holds and the time, such as runs/draw-demo-20261231-235959.

  Runs that start in the same second get one each: -2, -3 and so on.
  """
  name = f"{name}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
  for number in itertools.count(1):
    workdir = Path("runs", name if number == 1 else f"{name}-{number}")
    with suppress(FileExistsError):
      workdir.mkdir(parents=True)
      return workdir
  raise AssertionError


def discard_empty(workdir: Path) -> None:
  """Removes it if nothing was written there, and runs/ with it: what came to nothing leaves nothing."""
  with suppress(OSError):
    workdir.rmdir()
    workdir.parent.rmdir()
