"""The three splits of a set, as every run sees them.

Shapes: M images in a split, H W C image.
"""

import dataclasses
import hashlib

import numpy as np

from latentjax.data import cache, scenes, sources
from latentjax.data.cache import cached
from latentjax.data.protocol import binarize_once, compose_once, hold_out
from latentjax.data.sources import Source
from latentjax.data.splits import LABELS, NAMES, SPLITS, Splits
from latentjax.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Dataset:
  """uint8 images [M, H, W, C] of each split, from 0 to 255.

  Attributes:
    train: grey if binarization is "dynamic": every batch is drawn anew. Of scenes it is what they are made of, and
      smaller.
    validation, test: binary unless binarization is "none".
    binarization: "dynamic", "static" or "none".
    in_scenes: whether every training batch is put into scenes.
    labels: whole numbers [M] of the splits whose images have them, negative where one is not known.
    label_names: of the labels 0, 1 ...; empty where they have none.
  """

  train: np.ndarray
  validation: np.ndarray
  test: np.ndarray
  binarization: str
  in_scenes: bool = False
  labels: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
  label_names: tuple[str, ...] = ()

  @property
  def image_shape(self) -> tuple[int, int, int]:
    return self.test.shape[1:]

  @property
  def sha256(self) -> str:
    """Hash of all images as runs see them, split and binarised."""
    total = hashlib.sha256()
    for images in (self.train, self.validation, self.test):
      total.update(str(images.shape).encode())
      total.update(np.ascontiguousarray(images))
    return total.hexdigest()

  def mean_pixels(self) -> np.ndarray:
    """[H, W, C] float32 mean of the training images in [0, 1]."""
    images = compose_once(self.train, "train") if self.in_scenes else self.train
    return (images.mean(0, dtype=np.float64) / 255).astype(np.float32)

  def std_pixels(self) -> np.ndarray:
    """[C] float32 root mean square of how far pixels in [0, 1] lie from the mean image; of 1,000 images at most."""
    images = spaced(self.train, 1000)
    images = compose_once(images, "train") if self.in_scenes else images
    return (np.sqrt(images.var(0, dtype=np.float32).mean((0, 1))) / 255).astype(np.float32)

  def evaluated(self, limit: int | None = None) -> dict[str, np.ndarray]:
    """The first `limit` images of every split, or all, as they are evaluated: train, too, binarised once.

    Of scenes a limit makes other ones of train, not the first.
    """
    train = self.train[:limit]
    train = compose_once(train, "train") if self.in_scenes else train
    return {
      "train": binarize_once(train, "train") if self.binarization == "dynamic" else train,
      "validation": self.validation[:limit],
      "test": self.test[:limit],
    }


def spaced(images: np.ndarray, count: int) -> np.ndarray:
  """So many of the images [M, H, W, C], evenly spaced, or all of fewer."""
  return images[np.linspace(0, len(images) - 1, min(count, len(images))).astype(int)]


def load(name: str, binarization: str, placement: str = "auto", image_size: int = 0) -> Dataset:
  """A set by name or path, split and binarised: the arguments are the keys of `config.data`.

  Validation and test are binarised once, with a fixed seed; "static" does the same to train. The first call decodes the
  set and keeps the result in `cache_dir()`; later ones read that file alone.

  Args:
    name, image_size: as `sources.choose` takes them.
    binarization: "dynamic", "static" or "none" (values stay as they are, from 0 to 255).
    placement: not used here, see `create_feed`.

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
  splits = read_splits(source)
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
