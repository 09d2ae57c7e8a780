"""The three splits of a set, as every run sees them.

Shapes: M images in a split, H W C image.
"""

import dataclasses
import hashlib

import numpy as np

from latentjax import processes
from latentjax.data.disk import DiskImages
from latentjax.data.sources import Splits, open_splits, read_splits, too_large
from latentjax.errors import UsageError

HELD_OUT = 10_000  # images of train that become a split which a set lacks
PROTOCOL_SEED = 0  # of splits and of fixed binarisation: the same for every run, so that their numbers compare


@dataclasses.dataclass(frozen=True)
class Dataset:
  """uint8 images [M, H, W, C] of each split, from 0 to 255.

  Attributes:
    train: grey if binarization is "dynamic": every batch is drawn anew. May be on disk.
    validation, test: black and white unless binarization is "none".
    binarization: "dynamic", "static" or "none".
  """

  train: np.ndarray | DiskImages
  validation: np.ndarray
  test: np.ndarray
  binarization: str

  @property
  def image_shape(self) -> tuple[int, int, int]:
    return self.train.shape[1:]

  @property
  def sha256(self) -> str:
    """Hash of all images as runs see them, split and binarised; of those on disk it is which they are."""
    total = hashlib.sha256()
    for images in (self.train, self.validation, self.test):
      total.update(str(images.shape).encode())
      total.update(bytes(images) if isinstance(images, DiskImages) else np.ascontiguousarray(images))
    return total.hexdigest()

  def first(self, count: int | None) -> np.ndarray:
    """The first `count` training images; None means all, or as many as are held out where they are on disk."""
    return self.train[: count or (HELD_OUT if isinstance(self.train, DiskImages) else None)]

  @property
  def mean(self) -> np.ndarray:
    """[H, W, C] in [0, 1]: the mean training image, of the first ones where they are on disk."""
    return (self.first(None).mean(0, dtype=np.float64) / 255).astype(np.float32)


def load(name: str, binarization: str, placement: str = "auto") -> Dataset:
  """A set by name, split and binarised.

  Validation and test are binarised once, with a fixed seed; "static" does the same to train.

  Args:
    name: as `read_splits` takes it.
    binarization: "dynamic", "static" or "none" (grey values stay; the bound is then no likelihood of binary data).
    placement: "disk" leaves train there; "auto" does so if it is not decoded yet and takes more than half of the host's
      free memory.

  Raises:
    UsageError, RunError: as `read_splits` does.
  """
  on_disk = placement == "disk" or (placement == "auto" and processes.once(lambda: too_large(name)))
  splits = hold_out(open_splits(name) if on_disk else read_splits(name))
  fixed = {"dynamic": ("validation", "test"), "static": ("train", "validation", "test"), "none": ()}
  for split in fixed[binarization]:
    splits[split] = binarize_once(splits[split], split)
  return Dataset(**splits, binarization=binarization)


def hold_out(splits: Splits) -> Splits:
  """Completes a set without validation or test: each is the last 10,000 of what a seeded permutation leaves of train.

  From a set of fewer than 50,000 images each takes a fifth instead.
  """
  if "train" not in splits:
    raise UsageError(f"the dataset has no train split, only {', '.join(splits)}")
  train = splits["train"]
  order = np.random.default_rng(PROTOCOL_SEED).permutation(len(train))
  count = min(HELD_OUT, max(1, len(train) // 5))
  completed = {}
  for split in ("validation", "test"):
    if split in splits:
      completed[split] = splits[split]
    else:
      order, last = order[:-count], order[-count:]
      completed[split] = train[last]
  if len(order) < len(train):
    train = train.subset(order) if isinstance(train, DiskImages) else train[order]
  return {"train": train, **completed}


def binarize_once(images: np.ndarray | DiskImages, split: str) -> np.ndarray | DiskImages:
  """Images [M, H, W, C] in 0 and 255, each pixel white with probability value / 255, the same at every call.

  Raises:
    UsageError: the images are on disk, and grey.
  """
  if isinstance(images, DiskImages):
    if not images.black_and_white:
      raise UsageError("data.binarization = static draws all images once, so they cannot stay on disk: take dynamic")
    return images
  generator = np.random.default_rng([PROTOCOL_SEED, *split.encode()])
  drawn = np.empty_like(images)
  for start in range(0, len(images), 1000):  # a large set's random numbers would not fit in memory at once
    grey = images[start : start + 1000]
    drawn[start : start + 1000] = 255 * (generator.random(grey.shape, dtype=np.float32) * 255 < grey)
  return drawn
