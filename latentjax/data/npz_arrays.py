"""A person's own images as an .npz of arrays.

Shapes: M images in a split, H W C image.
"""

from functools import cached_property

import numpy as np
from PIL import Image

from latentjax.data.base import LABELS, SPLITS, Splits
from latentjax.data.decoding import content_key, crop_and_resize, read_bytes, source_label, warn_ignored, with_channels
from latentjax.runtime.errors import RunError, UsageError
from latentjax.runtime.fileio import expand_user, open_npz


class NpzImages:
  """An .npz with uint8 arrays `train`, and maybe `validation` and `test`, [M, H, W] or [M, H, W, C]: a `Source`.

  Pixels from 0 to 255, or 0 and 1. Of each whole numbers [M], `train_labels` and so on, may be there, too.

  Args:
    size: as of `Folder`.
    to_encode: these are no training images: any of the arrays will do, or one called `images`.
  """

  is_available = True

  def __init__(self, name: str, size: int = 0, to_encode: bool = False):
    self.name, self._size, self._path, self._to_encode = name, size, expand_user(name), to_encode

  @cached_property
  def key(self) -> str:
    return content_key(self.name, self._size, [("", read_bytes(self._path))])

  @property
  def image_shape(self) -> tuple[int, int, int]:
    return self._arrays["train"].shape[1:]

  @property
  def names(self) -> dict[str, list[str]]:
    """Arrays have no paths."""
    return {}

  def read(self) -> Splits:
    return self._arrays

  @cached_property
  def _arrays(self) -> Splits:
    said, splits = source_label(self.name, self._to_encode), ("images", *SPLITS) if self._to_encode else SPLITS

    def damaged(kind: str) -> RunError:
      return RunError(f"{said} cannot be read as an .npz of arrays of numbers ({kind})")

    with open_npz(self._path, damaged) as arrays:
      found = {split: arrays[split] for split in splits if split in arrays.files}
      labels = {split: arrays[split + LABELS] for split in splits if split + LABELS in arrays.files}
      names = arrays.files
    if not (found if self._to_encode else "train" in found):
      wanted = "`images`, `train`, `validation` or `test`" if self._to_encode else "`train`"
      raise UsageError(f"{said} has no array {wanted}, only {', '.join(names) or 'nothing'}")
    warn_ignored(said, [name for name in names if name not in (*found, *(split + LABELS for split in labels))])
    first, expected = next((split, images.shape[1:]) for split, images in found.items())
    for split, images in found.items():
      if images.dtype != np.uint8 or images.ndim not in (3, 4) or images.shape[3:] not in ((), (1,), (3,)):
        raise UsageError(
          f"{split} in {self.name} must be uint8 [M, H, W], [M, H, W, 1] or [M, H, W, 3], not {images.dtype}"
          f" {list(images.shape)}"
        )
      if not images.size:
        raise UsageError(f"{split} in {self.name} has no images: it is {list(images.shape)}")
      if images.shape[1:] != expected:
        raise UsageError(f"{split} in {self.name} is {list(images.shape)}, and {first} is {list(found[first].shape)}")
    for split, numbers in labels.items():
      if split not in found:
        raise UsageError(f"{split}{LABELS} in {self.name} are of no images: there is no array `{split}`")
      if not np.issubdtype(numbers.dtype, np.integer) or numbers.shape != found[split].shape[:1]:
        raise UsageError(
          f"{split}{LABELS} in {self.name} must be whole numbers [{len(found[split])}], one for each image of {split},"
          f" not {numbers.dtype} {list(numbers.shape)}"
        )
    found = {split: images if images.ndim == 4 else images[..., None] for split, images in found.items()}
    factor = 255 if max(images.max() for images in found.values()) == 1 else 1  # binary images are often 0 and 1
    resized = {split: self._resized(images * np.uint8(factor)) for split, images in found.items()}
    return resized | {split + LABELS: numbers.astype(np.int64) for split, numbers in labels.items()}

  def _resized(self, images: np.ndarray) -> np.ndarray:
    if not self._size:
      return images
    pictures = (Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image) for image in images)
    return np.stack(
      [with_channels(np.asarray(crop_and_resize(picture, self._size)), images.shape[-1] == 3) for picture in pictures]
    )
