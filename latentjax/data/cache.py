"""Decoded sets on disk: a file of arrays for each, which alone is enough to train."""

import os
import uuid
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import numpy as np

from latentjax import npz
from latentjax.errors import RunError, UsageError

LONGEST = 150  # bytes of a file's name: file systems take 255


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


def cached(name: str) -> Path:
  """The file that keeps a decoded set, such as imagenet_resized%2F64x64.npz.

  Of a long name its end, where those of a person's own images have their hash.
  """
  return cache_dir() / f"{quote(name, safe='', errors='surrogateescape')[-LONGEST:]}.npz"


def read(name: str) -> dict[str, np.ndarray] | None:
  """The splits of a decoded set, or None if it is not decoded yet.

  Raises:
    RunError: the file is damaged.
  """
  path = cached(name)
  if not path.exists():
    return None

  def damaged(kind: str) -> RunError:
    return RunError(f"the decoded images in {path} are damaged ({kind}): delete that file and run again")

  with npz.opened(path, damaged) as arrays:
    return dict(arrays)


def write(name: str, splits: dict[str, np.ndarray]) -> None:
  """Writes the file whole or not at all, also when two runs do so at once, on two machines with one directory too.

  Raises:
    RunError: the disk refuses.
  """
  path = cached(name)
  unfinished = path.with_suffix(f".{uuid.uuid4().hex}.npz")
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(unfinished, **splits)
    unfinished.replace(path)
  except OSError as error:
    raise RunError(f"cannot keep decoded images in {path.parent} ({error}): set LATENTJAX_CACHE_DIR") from None
  finally:
    with suppress(OSError):
      unfinished.unlink(missing_ok=True)
