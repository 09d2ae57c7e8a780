"""Training images that TFDS reads from disk a batch at a time: for sets that the host's memory does not hold."""

from collections.abc import Sequence

import numpy as np

PROBED = 1000  # images that tell whether a set's pixels are 0 and 1 or 0 to 255


class DiskImages:
  """Images [M, H, W, C] of a TFDS split, indexed like an array; only what is asked for is read and decoded.

  Args:
    source: TFDS's random-access reader of the split.
    image_shape: (H, W, C).
    name: of the set and its version.
    factor: on every pixel, 255 for sets of pixels 0 and 1; None looks at the first images.
    rows: [M] which examples these are, in order; None means all.
  """

  def __init__(
    self,
    source: Sequence[dict],
    image_shape: tuple[int, int, int],
    name: str,
    factor: int | None = None,
    rows: np.ndarray | None = None,
  ):
    self._source, self._factor = source, factor or 1
    self._rows = np.arange(len(source)) if rows is None else rows
    self.shape, self.name = (len(self._rows), *image_shape), name
    if factor is None and self[:PROBED].max() == 1:
      self._factor = 255

  def __len__(self) -> int:
    return len(self._rows)

  def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
    """uint8 images of a slice or of an array of numbers of any shape."""
    rows = self._rows[index]
    read = self._source.__getitems__(rows.ravel().tolist())
    images = np.array([example["image"] for example in read], np.uint8)
    return (images * np.uint8(self._factor)).reshape(*rows.shape, *self.shape[1:])

  def subset(self, rows: np.ndarray) -> "DiskImages":
    """The images of these numbers, in their order; nothing is read."""
    return DiskImages(self._source, self.shape[1:], self.name, self._factor, self._rows[rows])

  @property
  def binary(self) -> bool:
    """Whether the set has only pixels 0 and 1."""
    return self._factor == 255

  def __bytes__(self) -> bytes:
    """What tells these images from others without reading them: the set's name and version, and which examples."""
    return self.name.encode() + self._rows.tobytes()


class DiskLabels:
  """Labels [M] of a TFDS split, read where they are asked for, as `DiskImages`; rows as there."""

  def __init__(self, source: Sequence[dict], rows: np.ndarray | None = None):
    self._source, self._rows = source, np.arange(len(source)) if rows is None else rows

  def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
    """int64 labels of a slice or of an array of numbers."""
    return np.array([example["label"] for example in self._source.__getitems__(self._rows[index].tolist())], np.int64)

  def subset(self, rows: np.ndarray) -> "DiskLabels":
    """The labels of these numbers, in their order; nothing is read."""
    return DiskLabels(self._source, self._rows[rows])
