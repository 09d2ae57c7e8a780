"""Paths, atomic writes and untrusted `.npz` files."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np

from latentjax.runtime.errors import RunError, UsageError, damaged, unreadable


@contextmanager
def open_npz(path: Path, advice: str) -> Iterator[np.lib.npyio.NpzFile]:
  """Opens an `.npz` without unpickling; the block should only take arrays from it.

  Args:
    path: The file.
    advice: For the user of a damaged file, see `errors.damaged`.

  Raises:
    RunError: The file cannot be read or is damaged.
  """
  try:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
      yield arrays
  except MemoryError:
    raise
  except OSError as error:
    raise unreadable(path, error) from None
  except Exception as error:  # zip, zlib and NumPy raise their own kinds, and NumPy's text recommends to unpickle
    raise damaged(path, advice, type(error).__name__) from None


def expand_user(name: str | os.PathLike) -> Path:
  """Returns the path of a name that may begin with ~; raises UsageError if that user does not exist."""
  try:
    return Path(name).expanduser()
  except RuntimeError:
    raise UsageError(f"{name}: no such user. Give the whole path.") from None


def write_atomic(path: Path, content: str | bytes | Callable[[BinaryIO], None]) -> None:
  """Writes a file whole or not at all.

  Args:
    path: The file, whose directory exists.
    content: Its content, or a function that writes content too large to have twice in memory.

  Raises:
    RunError: The disk refuses.
  """
  temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")  # two processes may write the same file
  try:
    with temporary.open("wb") as file:
      if callable(content):
        content(file)
      else:
        file.write(content.encode() if isinstance(content, str) else content)
      file.flush()
      os.fsync(file.fileno())
    temporary.replace(path)
  except OSError as error:
    with suppress(OSError):
      temporary.unlink(missing_ok=True)
    raise RunError(f"Cannot write {path} ({error.strerror}).") from None


def cache_dir() -> Path:
  """Returns the directory of decoded datasets: $LATENTJAX_CACHE_DIR, or `latentjax` in the user's cache directory."""
  own, user_cache = os.environ.get("LATENTJAX_CACHE_DIR"), os.environ.get("XDG_CACHE_HOME")
  if own or user_cache:
    return Path(own) if own else Path(user_cache, "latentjax")
  try:
    return Path.home() / ".cache" / "latentjax"
  except RuntimeError:
    raise UsageError("No home directory to cache decoded images in. Set LATENTJAX_CACHE_DIR.") from None
