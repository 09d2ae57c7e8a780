"""Paths, atomic writes, JSON and untrusted `.npz` files."""

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from latentjax.runtime.errors import RunError, UsageError, damaged, unreadable


@contextmanager
def open_npz(path: Path, advice: str) -> Iterator[np.lib.npyio.NpzFile]:
  """Opens an `.npz` without unpickling; raises RunError, with `advice`, if the block cannot read it."""
  try:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
      yield arrays
  except MemoryError:
    raise
  except OSError as error:
    raise unreadable(path, error) from None
  except Exception as error:  # zip, zlib and NumPy raise their own kinds, and NumPy's message suggests unpickling
    raise damaged(path, advice, type(error).__name__) from None


def expand_user(name: str | os.PathLike) -> Path:
  """Returns the path of a name that may begin with ~; raises UsageError if there is no such home directory."""
  try:
    return Path(name).expanduser()
  except RuntimeError:
    raise UsageError(f"{name}: no such user, or no home directory. Give the full path, or set HOME.") from None


def write_atomic(path: Path, content: str | bytes | Callable[[BinaryIO], None]) -> None:
  """Writes a file atomically; raises RunError if writing fails.

  `content` may be a function that writes to the file, for data too large to hold in memory twice.
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


def dump_json(content: Any, indent: int | None = 2) -> str:
  """Returns a value as JSON, with null for NaN and infinities, and a final newline."""
  return json.dumps(to_finite(content), indent=indent, allow_nan=False) + "\n"


def load_json(content: str | bytes) -> Any:
  """Parses JSON, with None for NaN and infinities; bytes may begin with a byte-order mark, which editors write."""
  return to_finite(json.loads(content))


def to_finite(value: Any) -> Any:
  """Returns a JSON value with None in place of NaN and infinities, which JSON lacks."""
  if isinstance(value, Mapping):
    return {name: to_finite(item) for name, item in value.items()}
  if isinstance(value, list | tuple):
    return [to_finite(item) for item in value]
  return None if isinstance(value, float) and not math.isfinite(value) else value


def cache_dir() -> Path:
  """Returns the directory of decoded datasets: $LATENTJAX_CACHE_DIR, or `latentjax` in the user's cache directory."""
  if own := os.environ.get("LATENTJAX_CACHE_DIR"):
    return expand_user(own)
  user_cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
  if user_cache.is_absolute():  # the XDG standard ignores a relative one
    return user_cache / "latentjax"
  try:
    return Path.home() / ".cache" / "latentjax"
  except RuntimeError:
    raise UsageError("There is no home directory for decoded datasets. Set LATENTJAX_CACHE_DIR.") from None
