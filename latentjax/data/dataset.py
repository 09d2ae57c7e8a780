"""The three splits of a set, as every run sees them.

Shapes: M images in a split, H W C image.
"""

import dataclasses
import hashlib
import math

import numpy as np
import psutil

from latentjax import processes
from latentjax.data import cache, sources
from latentjax.data.cache import cached
from latentjax.data.disk import DiskImages, Splits
from latentjax.data.sources import Source
from latentjax.errors import UsageError

HELD_OUT = 10_000  # images of train that become a split which a set lacks
PROTOCOL_SEED = 0  # of splits and of fixed binarisation: the same for every run, so that their numbers compare


@dataclasses.dataclass(frozen=True)
class Dataset:
  """uint8 images [M, H, W, C] of each split, from 0 to 255.

  Attributes:
    train: grey if binarization is "dynamic": every batch is drawn anew. May be on disk.
    validation, test: binary unless binarization is "none".
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

  def mean_pixels(self) -> np.ndarray:
    """[H, W, C] float32 mean of the training images in [0, 1]; of those on disk of 10,000, evenly spaced."""
    images = spaced(self.train, HELD_OUT) if isinstance(self.train, DiskImages) else self.train
    return (images.mean(0, dtype=np.float64) / 255).astype(np.float32)

  def std_pixels(self) -> np.ndarray:
    """[C] float32 root mean square of how far pixels in [0, 1] lie from the mean image; of 1,000 images at most."""
    return (np.sqrt(spaced(self.train, 1000).var(0, dtype=np.float32).mean((0, 1))) / 255).astype(np.float32)

  def first(self, count: int | None) -> np.ndarray:
    """The first `count` training images; None means all, or as many as are held out where they are on disk."""
    return self.train[: count or (HELD_OUT if isinstance(self.train, DiskImages) else None)]


def spaced(images: np.ndarray | DiskImages, count: int) -> np.ndarray:
  """So many of the images [M, H, W, C], evenly spaced, or all of fewer."""
  return images[np.linspace(0, len(images) - 1, min(count, len(images))).astype(int)]


def load(name: str, binarization: str, placement: str = "auto", image_size: int = 0) -> Dataset:
  """A set by name or path, split and binarised: the arguments are the keys of `config.data`.

  Validation and test are binarised once, with a fixed seed; "static" does the same to train. The first call decodes the
  set and keeps the result in `cache_dir()`; later ones read that file alone.

  Args:
    name, image_size: as `sources.choose` takes them.
    binarization: "dynamic", "static" or "none" (values stay as they are, from 0 to 255).
    placement: "disk" leaves train there, and keeps nothing; "auto" does so if it is not decoded yet and takes more than
      half of the host's free memory.

  Raises:
    UsageError: no such set, not a set of equally large images, or one in colour that is to be binarised.
    RunError: the set is not prepared here and cannot be downloaded, or the cache cannot be read or written.
  """
  source = sources.choose(name, image_size)
  if not cached(source.key).exists():
    require_grey(name, source.image_shape, binarization)  # before minutes of decoding
  on_disk = placement == "disk" or (placement == "auto" and processes.on_primary(lambda: too_large(source)))
  splits = hold_out(source.open() if on_disk else read_splits(source))
  require_grey(name, splits["train"].shape[1:], binarization)
  fixed = {"dynamic": ("validation", "test"), "static": ("train", "validation", "test"), "none": ()}
  for split in fixed[binarization]:
    splits[split] = binarize_once(splits[split], split)
  return Dataset(**splits, binarization=binarization)


def require_grey(name: str, image_shape: tuple[int, int, int], binarization: str) -> None:
  """Raises UsageError if colour is to be binarised: of its three channels nothing but noise would be left."""
  if binarization != "none" and image_shape[-1] > 1:
    raise UsageError(
      f"{name} is in colour, of which data.binarization = {binarization!r} would leave noise: take"
      " --config.data.binarization=none --config.model.likelihood=discretized_logistic"
    )


def prepared(name: str, image_size: int = 0) -> bool:
  """Whether a set can be loaded at once, without a download; raises as `load` does."""
  source = sources.choose(name, image_size)
  return cached(source.key).exists() or source.prepared


def read_splits(source: Source) -> Splits:
  """Every split of a source, from the cache if it is there."""
  splits = cache.read(source.key)
  if splits is None:
    splits = source.read()
    cache.write(source.key, splits)
  return splits


def too_large(source: Source) -> bool:
  """Whether the decoded training images would take more than half of the host's free memory."""
  return not cached(source.key).exists() and source.num_train * math.prod(source.image_shape) > free_memory() / 2


def free_memory() -> int:
  """Bytes that the host could still give."""
  return psutil.virtual_memory().available


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
    if not images.binary:
      raise UsageError("data.binarization = static draws all images once, so they cannot stay on disk: take dynamic")
    return images
  generator = np.random.default_rng([PROTOCOL_SEED, *split.encode()])
  drawn = np.empty_like(images)
  for start in range(0, len(images), 1000):  # a large set's random numbers would not fit in memory at once
    grey = images[start : start + 1000]
    drawn[start : start + 1000] = 255 * (generator.random(grey.shape, dtype=np.float32) * 255 < grey)
  return drawn
