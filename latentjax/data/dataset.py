"""The three splits of a set, as every run sees them.

Shapes: M images in a split, H W C image.
"""

import dataclasses
import hashlib
import math
from contextlib import suppress

import numpy as np

from latentjax import free_memory, processes
from latentjax.data import cache, scenes, sources
from latentjax.data.cache import cached
from latentjax.data.disk import DiskImages, DiskLabels
from latentjax.data.protocol import HELD_OUT, binarize_once, compose_once, hold_out
from latentjax.data.sources import Source
from latentjax.data.splits import LABELS, NAMES, SPLITS, Splits
from latentjax.errors import RunError, UsageError


@dataclasses.dataclass(frozen=True)
class Dataset:
  """uint8 images [M, H, W, C] of each split, from 0 to 255.

  Attributes:
    train: grey if binarization is "dynamic": every batch is drawn anew. May be on disk. Of scenes it is what they are
      made of, and smaller.
    validation, test: binary unless binarization is "none".
    binarization: "dynamic", "static" or "none".
    in_scenes: whether every training batch is put into scenes.
    labels: whole numbers [M] of the splits whose images have them, negative where one is not known.
    label_names: of the labels 0, 1 ...; empty where they have none.
  """

  train: np.ndarray | DiskImages
  validation: np.ndarray
  test: np.ndarray
  binarization: str
  in_scenes: bool = False
  labels: dict[str, np.ndarray | DiskLabels] = dataclasses.field(default_factory=dict)
  label_names: tuple[str, ...] = ()

  @property
  def image_shape(self) -> tuple[int, int, int]:
    return self.test.shape[1:]

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
    images = compose_once(images, "train") if self.in_scenes else images
    return (images.mean(0, dtype=np.float64) / 255).astype(np.float32)

  def std_pixels(self) -> np.ndarray:
    """[C] float32 root mean square of how far pixels in [0, 1] lie from the mean image; of 1,000 images at most."""
    images = spaced(self.train, 1000)
    images = compose_once(images, "train") if self.in_scenes else images
    return (np.sqrt(images.var(0, dtype=np.float32).mean((0, 1))) / 255).astype(np.float32)

  def first(self, count: int | None) -> np.ndarray:
    """The first `count` training images; None means all, or as many as are held out where they are on disk."""
    return self.train[: count or (HELD_OUT if isinstance(self.train, DiskImages) else None)]

  def evaluated(self, limit: int | None = None) -> dict[str, np.ndarray]:
    """The first images of every split, see `first`, as they are evaluated: train, too, binarised once.

    Of scenes a limit makes other ones of train, not the first.
    """
    train = self.first(limit)
    train = compose_once(train, "train") if self.in_scenes else train
    return {
      "train": binarize_once(train, "train") if self.binarization == "dynamic" else train,
      "validation": self.validation[:limit],
      "test": self.test[:limit],
    }


def spaced(images: np.ndarray | DiskImages, count: int) -> np.ndarray:
  """So many of the images [M, H, W, C], evenly spaced, or all of fewer."""
  return images[np.linspace(0, len(images) - 1, min(count, len(images))).astype(int)]


def load(
  name: str, binarization: str, placement: str = "auto", image_size: int = 0, with_labels: bool = False
) -> Dataset:
  """A set by name or path, split and binarised: the arguments are the keys of `config.data`.

  Validation and test are binarised once, with a fixed seed; "static" does the same to train. The first call decodes the
  set and keeps the result in `cache_dir()`; later ones read that file alone.

  Args:
    name, image_size: as `sources.choose` takes them.
    binarization: "dynamic", "static" or "none" (values stay as they are, from 0 to 255).
    placement: "disk" leaves train there, and keeps nothing; "auto" does so if it is not decoded yet and takes more than
      half of the host's free memory.
    with_labels: a set that was decoded before labels were kept is decoded again for their sake, if that can be done.

  Raises:
    UsageError: no such set, images of different sizes, or ones that cannot be binarised or put into scenes as asked.
    RunError: the set is not prepared here and cannot be downloaded, or the cache cannot be read or written.
  """
  in_scenes = scenes.set_of(name) is not None
  if in_scenes and binarization == "static":
    raise UsageError(f"data.binarization = static draws all images once, and {name} makes each anew: take dynamic")
  source = choose_source(name, image_size)
  if not cached(source.key).exists():
    require_grey(name, source.image_shape, binarization)  # before minutes of decoding
  on_disk = placement == "disk" or (placement == "auto" and processes.on_primary(lambda: too_large(source)))
  splits = open_splits(source, placement) if on_disk else read_splits(source)
  if with_labels and not on_disk and not labelled(splits):
    splits = add_labels(source, splits)
  label_names = tuple(splits.get(NAMES, np.array([])).tolist())
  splits = hold_out(splits)
  require_grey(name, splits["train"].shape[1:], binarization)
  if in_scenes:
    splits = {split: splits[split] for split in SPLITS}  # a scene has no label
    scenes.require_room(name, splits)
    splits |= {split: compose_once(splits[split], split) for split in ("validation", "test")}
  fixed = {"dynamic": ("validation", "test"), "static": ("train", "validation", "test"), "none": ()}
  for split in fixed[binarization]:
    splits[split] = binarize_once(splits[split], split)
  images = {split: splits[split] for split in SPLITS}
  labels = {split: splits[split + LABELS] for split in images if split + LABELS in splits}
  return Dataset(**images, binarization=binarization, in_scenes=in_scenes, labels=labels, label_names=label_names)


def choose_source(name: str, image_size: int) -> Source:
  """As `sources.choose`; for scenes that of what they are made of."""
  return sources.choose(scenes.set_of(name) or name, image_size)


def require_grey(name: str, image_shape: tuple[int, int, int], binarization: str) -> None:
  """Raises UsageError if colour is to be binarised: of its three channels nothing but noise would be left."""
  if binarization != "none" and image_shape[-1] > 1:
    raise UsageError(
      f"{name} is in colour, of which data.binarization = {binarization!r} would leave noise: take"
      " --config.data.binarization=none --config.model.likelihood=discretized_logistic"
    )


def prepared(name: str, image_size: int = 0) -> bool:
  """Whether a set can be loaded at once, without a download; raises as `load` does."""
  source = choose_source(name, image_size)
  return cached(source.key).exists() or source.prepared


def read_splits(source: Source) -> Splits:
  """Every split of a source, from the cache if it is there."""
  splits = cache.read(source.key)
  if splits is None:
    splits = source.read()
    cache.write(source.key, splits)
  return splits


def open_splits(source: Source, placement: str) -> Splits:
  """Every split of a source, train on disk, because `placement` is "disk" or the host has too little memory."""
  try:
    return source.open()
  except UsageError as error:
    if placement == "disk":
      raise
    raise UsageError(
      f"the training images take more than half of the free memory, and {error}; --config.data.placement=host tries"
      " it in memory"
    ) from None


def labelled(splits: Splits) -> bool:
  return any(name.endswith(LABELS) for name in splits)


def add_labels(source: Source, splits: Splits) -> Splits:
  """The same images with their labels, which the cache keeps from then on; without them where it cannot be done."""
  try:
    if not (source.prepared and source.labelled):
      return splits
    again = source.read()
  except Exception:  # TFDS raises many kinds; what needs labels says that there are none
    return splits
  if any(not np.array_equal(images, again.get(split)) for split, images in splits.items()):
    return splits  # it has changed since, and who trains on it would not know these images again
  with suppress(RunError):  # a cache that cannot be written does for reading
    cache.write(source.key, again)
  return again


def too_large(source: Source) -> bool:
  """Whether the decoded training images would take more than half of the host's free memory."""
  if cached(source.key).exists():
    return False
  return source.num_train * math.prod(source.image_shape) > free_memory.of_host() / 2
