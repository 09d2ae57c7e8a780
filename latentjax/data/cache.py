"""Decoded sets on disk: a file of arrays for each, which alone is enough to train."""

import uuid
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import numpy as np

from latentjax.runtime.errors import RunError
from latentjax.runtime.fileio import cache_dir, open_npz

MAX_NAME_BYTES = 150  # bytes of a file's name: file systems take 255


def cached_path(name: str) -> Path:
  """The file that keeps a decoded set, such as imagenet_resized%2F64x64.npz.

  Of a long name its end, where those of a person's own images have their hash.
  """
  return cache_dir() / f"{quote(name, safe='', errors='surrogateescape')[-MAX_NAME_BYTES:]}.npz"


def read_cache(name: str) -> dict[str, np.ndarray] | None:
  """The splits of a decoded set, or None if it is not decoded yet.

  Raises:
    RunError: the file is damaged.
  """
  path = cached_path(name)
  if not path.exists():
    return None

  def damaged(kind: str) -> RunError:
    return RunError(f"the decoded images in {path} are damaged ({kind}): delete that file and run again")

  with open_npz(path, damaged) as arrays:
    return dict(arrays)


def write_cache(name: str, splits: dict[str, np.ndarray]) -> None:
  """Writes the file whole or not at all, also when two runs do so at once, on two machines with one directory too.

  Raises:
    RunError: the disk refuses.
  """
  path = cached_path(name)
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
