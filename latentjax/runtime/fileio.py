"""Paths, atomic writes and `.npz` files that anybody may have written."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np

from latentjax.runtime.errors import RunError, UsageError, unreadable


@contextmanager
def open_npz(path: Path, damaged: Callable[[str], RunError]) -> Iterator[np.lib.npyio.NpzFile]:
  """The file for a block that does nothing but take arrays from it.

  Args:
    damaged: what to raise of a file that is none or damaged, by the kind of error, whose own words say nothing to a
      person or recommend to unpickle.

  Raises:
    RunError: it cannot be read.
  """
  try:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
      yield arrays
  except MemoryError:
    raise
  except OSError as error:
    raise unreadable(path, error) from None
  except Exception as error:  # zip, zlib and numpy each have their own for a damaged file
    raise damaged(type(error).__name__) from None


def expand_user(name: str | os.PathLike) -> Path:
  """The path of a name that may begin with ~.

  Raises:
    UsageError: it begins with that of nobody here.
  """
  try:
    return Path(name).expanduser()
  except RuntimeError:
    raise UsageError(f"{name} begins with ~ and the name of nobody here") from None


def write_atomic(path: Path, content: str | bytes | Callable[[BinaryIO], None]) -> None:
  """Writes a file whole or not at all.

  Args:
    content: or what writes it, for what is too large to have twice in memory.

  Raises:
    RunError: the disk refuses.
  """
  unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")  # two processes may be at it
  try:
    with unfinished.open("wb") as file:
      if callable(content):
        content(file)
      else:
        file.write(content.encode() if isinstance(content, str) else content)
      file.flush()
      os.fsync(file.fileno())
    unfinished.replace(path)
  except OSError as error:
    with suppress(OSError):
      unfinished.unlink(missing_ok=True)
    raise RunError(f"cannot write {path} ({error.strerror})") from None


def cache_dir() -> Path:
  """Where decoded sets are kept: $LATENTJAX_CACHE_DIR, or `latentjax` in the user's cache directory.

  Raises:
    UsageError: the user has none.
  """
  own, user_cache = os.environ.get("LATENTJAX_CACHE_DIR"), os.environ.get("XDG_CACHE_HOME")
  if own or user_cache:
    return Path(own) if own else Path(user_cache, "latentjax")
  try:
    return Path.home() / ".cache" / "latentjax"
  except RuntimeError:
    raise UsageError("there is no home directory to keep decoded images in: set LATENTJAX_CACHE_DIR") from None
