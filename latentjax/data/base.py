"""Splits and the interface of an image source."""

from typing import Protocol

import numpy as np

SPLITS = ("train", "validation", "test")

LABELS = "_labels"  # after a split's name

LABEL_NAMES = "label_names"


# Of each split uint8 images [M, H, W, C]. Where labels are known int64 `train_labels` [M] and so on, negative where
# an image has none; where they have names, `label_names` of 0, 1 ...
Splits = dict[str, np.ndarray]


class Source(Protocol):
  """A set of images of one size, as it is published.

  Attributes:
    name: as `data.name` has it.
    key: what the cache calls it: the name, or for a person's own images one that changes with their content.
    prepared: whether it can be read at once, without a download; asking changes nothing.
    image_shape: (H, W, C).

  Whatever is asked but `name`, `key` and `prepared` may prepare the set, and raises UsageError where there is no such
  set or it is none of images of one size, RunError where it cannot be had.
  """

  name: str
  key: str

  @property
  def is_available(self) -> bool: ...

  @property
  def image_shape(self) -> tuple[int, int, int]: ...

  def read(self) -> Splits:
    """Every split that it has of train, validation and test, decoded: uint8 [M, H, W, C] from 0 to 255, and labels."""
