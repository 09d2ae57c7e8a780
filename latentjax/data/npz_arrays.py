"""The user's own images as arrays, of an `.npz` or in memory.

Shapes: M images of a split, H W C image.
"""

from functools import cached_property
from typing import ClassVar

import numpy as np

from latentjax.data.base import (
  LABELS,
  SPLITS,
  Splits,
  as_pixels,
  content_key,
  scale_binary,
  source_label,
  warn_ignored,
)
from latentjax.data.decoding import crop_and_resize, is_gray, with_channels
from latentjax.runtime.errors import UsageError
from latentjax.runtime.fileio import expand_user, open_npz


class NpzImages:
  """A `Source` of uint8 arrays `train` and optionally `validation` and `test`, [M, H, W] or [M, H, W, C].

  Pixels are from 0 to 255, or in a split 0 and 1. Images of three equal channels are gray. Integer labels [M] may be in
  `train_labels` and so on. `size` is 0, or the side of the square to which images are cropped and resized. With
  `to_encode`, any split is enough, or an array `images`.
  """

  is_available = True
  names: ClassVar[dict[str, list[str]]] = {}  # arrays have no paths

  def __init__(self, name: str, size: int = 0, to_encode: bool = False):
    self.name, self._size, self._path, self._to_encode = name, size, expand_user(name), to_encode

  @cached_property
  def key(self) -> str:
    return content_key(self.name, self._size, {"": self._path})

  @property
  def image_shape(self) -> tuple[int, int, int]:
    return self._splits["train"].shape[1:]

  def read(self) -> Splits:
    return self._splits

  @cached_property
  def _splits(self) -> Splits:
    label, splits = source_label(self.name, self._to_encode), ("images", *SPLITS) if self._to_encode else SPLITS
    with open_npz(self._path, "Write it again by np.savez with arrays of numbers") as arrays:
      images = {split: arrays[split] for split in splits if split in arrays}
      labels = {split: arrays[split + LABELS] for split in splits if split + LABELS in arrays}
      names = arrays.files
    if not (images if self._to_encode else "train" in images):
      wanted = "`images`, `train`, `validation` or `test`" if self._to_encode else "`train`"
      raise UsageError(f"{label} has no array {wanted}, only {', '.join(names) or 'nothing'}.")
    warn_ignored(label, [name for name in names if name not in (*images, *(split + LABELS for split in labels))])
    return checked_splits(images, labels, f" in {self.name}", self._size)


def array_splits(images, labels=None, size: int = 0) -> Splits:
  """Returns the user's images in memory, and their labels if given, as an `.npz` of only `train` is read.

  Floats are rounded to 256 values. Raises UsageError, and what `as_pixels` raises.
  """
  images = as_pixels(images)
  if images.dtype != np.uint8:
    images = np.rint(images * 255).astype(np.uint8)
  given = {} if labels is None else {"images": np.asarray(labels)}
  found = checked_splits({"images": images}, given, "", size)
  return {"train" + kind: found["images" + kind] for kind in ("", LABELS) if "images" + kind in found}


def checked_splits(images: Splits, labels: Splits, where: str, size: int = 0) -> Splits:
  """Returns arrays as `Splits`, gray if all channels are equal; `where` completes their names in errors.

  Raises UsageError unless all images are of one size and every split with labels has one for each image.
  """
  _check(images, labels, where)
  images = {split: array if array.ndim == 4 else array[..., None] for split, array in images.items()}
  images = {split: _resize(scale_binary(array), size) for split, array in images.items()}
  if all(is_gray(array) for array in images.values()):
    images = {split: array[..., :1] for split, array in images.items()}
  return images | {split + LABELS: array.astype(np.int64) for split, array in labels.items()}


def _check(images: Splits, labels: Splits, where: str) -> None:
  first = next(iter(images))
  for split, array in images.items():
    label, shape = f"{split}{where}", list(array.shape)
    if array.dtype != np.uint8 or array.ndim not in (3, 4) or array.shape[3:] not in ((), (1,), (3,)):
      raise UsageError(f"{label} must be uint8 [M, H, W], [M, H, W, 1] or [M, H, W, 3], not {array.dtype} {shape}.")
    if not array.size:
      raise UsageError(f"{label} has no images: its shape is {shape}.")
    if array.shape[1:] != images[first].shape[1:]:
      raise UsageError(f"{label} is {shape} but {first} is {list(images[first].shape)}. All images need one size.")
  for split, array in labels.items():
    label = f"{split}{LABELS}{where}" if where else "labels"
    if split not in images:
      raise UsageError(f"{label} belongs to no images: there is no array `{split}`.")
    if not np.issubdtype(array.dtype, np.integer) or array.shape != images[split].shape[:1]:
      raise UsageError(
        f"{label} must be integers [{len(images[split])}], one for each image, not {array.dtype} {list(array.shape)}."
      )


def _resize(images: np.ndarray, size: int) -> np.ndarray:
  if not size:
    return images
  colored = images.shape[-1] == 3
  resized = (crop_and_resize(image if colored else image.squeeze(-1), size) for image in images)
  return np.stack([with_channels(image, colored) for image in resized])
