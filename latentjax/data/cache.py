"""Cache of decoded datasets: one `.npz` each, which alone is enough to train."""

import uuid
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import numpy as np

from latentjax.data.base import Splits
from latentjax.runtime.errors import RunError
from latentjax.runtime.fileio import cache_dir, open_npz


def cached_path(key: str) -> Path:
  """Returns the path of a decoded set, such as imagenet_resized%2F64x64.npz; a long key keeps its end, the hash."""
  name = quote(key, safe="", errors="surrogateescape")[-150:]  # file systems allow 255 bytes
  return cache_dir() / f"{name}.npz"


def is_cached(key: str) -> bool:
  """Returns True if a set is decoded; raises RunError if its file cannot be read."""
  path = cached_path(key)
  try:
    path.open("rb").close()
  except (FileNotFoundError, NotADirectoryError):
    return False
  except OSError as error:
    raise RunError(f"Cannot read {path} ({error.strerror}). Set LATENTJAX_CACHE_DIR to another directory.") from None
  return True


def read_cache(key: str) -> Splits | None:
  """Returns the splits of a decoded set, or None if there are none; raises RunError if the file is damaged."""
  if not is_cached(key):
    return None
  with open_npz(cached_path(key), "Delete it and run again") as arrays:
    return dict(arrays)


def write_cache(key: str, splits: Splits) -> None:
  """Writes a decoded set atomically, even if two runs do so at once; raises RunError if writing fails."""
  path = cached_path(key)
  temporary = path.with_suffix(f".{uuid.uuid4().hex}.npz")  # unique among the hosts that share the directory
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(temporary, **splits)
    temporary.replace(path)
  except OSError as error:
    reason = error.strerror or error
    raise RunError(f"Cannot cache decoded images in {path.parent} ({reason}). Set LATENTJAX_CACHE_DIR.") from None
  finally:
    with suppress(OSError):
      temporary.unlink(missing_ok=True)
