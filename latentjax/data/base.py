"""Splits, the interface of an image source, and helpers of the sources that read the user's own files.

Shapes: M images of a split, H W C image.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from latentjax.runtime.console import console
from latentjax.runtime.errors import unreadable

SPLITS = ("train", "validation", "test")
LABELS, LABEL_NAMES = "_labels", "label_names"  # "_labels" follows the name of a split
ROUNDING = 1e-6  # of pixels in [0, 1]: a larger excess is refused

# uint8 images [M, H, W, C] of each split; int64 labels [M] as `train_labels` and so on, negative if unknown; and
# `label_names` of the labels 0, 1 ... Both may be missing.
Splits = dict[str, np.ndarray]


class Source(Protocol):
  """A set of images of one size.

  All but `name` and `is_available` may download, prepare or decode images. They raise UsageError if there is no such
  set or its images differ in size, and RunError if it is not available.
  """

  name: str  # value of `data.name`
  key: str  # name in the cache: `name`, or for the user's own images one that changes with their content
  is_available: bool  # True if it can be read without a download
  image_shape: tuple[int, int, int]  # (H, W, C)

  def read(self) -> Splits:
    """Returns its splits, decoded: uint8 [M, H, W, C] from 0 to 255, with labels if it has them."""


def source_label(name: str, to_encode: bool) -> str:
  """Returns the flag and value by which the user named these images."""
  return f"--images={name}" if to_encode else f"data.name = {name!r}"


def warn_ignored(label: str, names: Sequence[str]) -> None:
  """Prints the names of ignored files or arrays, one of which may be a misspelled split."""
  if names:
    console.print(f"{label}: ignored {', '.join(names)}")


def as_pixels(images) -> np.ndarray:
  """Returns the user's images as one array, uint8 as it is and bool or floats as float32 in [0, 1].

  Raises TypeError for other types, ValueError for floats outside [0, 1] or images of different shapes.
  """
  try:
    images = np.asarray(images)
  except ValueError:
    raise ValueError("images have different shapes. Pass one array.") from None
  if images.dtype == np.uint8:
    return images
  if images.dtype != bool and not np.issubdtype(images.dtype, np.floating):
    raise TypeError(f"images have dtype {images.dtype}. Pass uint8 from 0 to 255 or floats from 0 to 1.")
  if np.isnan(images).any():
    raise ValueError("images have NaN. Remove those images, or fill their pixels.")
  if not ((images >= -ROUNDING) & (images <= 1 + ROUNDING)).all():
    raise ValueError(f"float images have values in [{images.min():.7g}, {images.max():.7g}]. Scale them to [0, 1].")
  return np.clip(images.astype(np.float32), 0, 1)


def scale_binary(images: np.ndarray) -> np.ndarray:
  """Returns the uint8 images of a split, multiplied by 255 if they are 0 and 1, as binary images often are."""
  return images * np.uint8(255) if images.max() == 1 else images


def content_key(name: str, size: int, files: Mapping[str, Path]) -> str:
  """Returns a cache key: the last part of the name, and a hash of the files by relative path."""
  digest = hashlib.sha256(f"{size}".encode())
  for relative, path in files.items():
    try:
      content = path.read_bytes()
    except OSError as error:
      raise unreadable(path, error) from None
    digest.update(f"{relative}\0{len(content)}\0".encode(errors="surrogateescape"))
    digest.update(content)
  return f"{Path(name).stem}-{digest.hexdigest()[:16]}"
