"""The three splits of a set, as every run sees them.

Shapes: M images in a split, H W C image.
"""

import dataclasses
import hashlib

import jax
import numpy as np

from latentjax.data import cache, sources, two_digits
from latentjax.data.base import LABEL_NAMES, LABELS, SPLITS, Source, Splits
from latentjax.data.cache import cached_path
from latentjax.runtime.errors import UsageError


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
    images = fixed_scenes(self.train, "train") if self.in_scenes else self.train
    return (images.mean(0, dtype=np.float64) / 255).astype(np.float32)

  def std_pixels(self) -> np.ndarray:
    """[C] float32 root mean square of how far pixels in [0, 1] lie from the mean image; of 1,000 images at most."""
    images = evenly_spaced(self.train, 1000)
    images = fixed_scenes(images, "train") if self.in_scenes else images
    return (np.sqrt(images.var(0, dtype=np.float32).mean((0, 1))) / 255).astype(np.float32)

  def eval_splits(self, limit: int | None = None) -> dict[str, np.ndarray]:
    """The first `limit` images of every split, or all, as they are evaluated: train, too, binarised once.

    Of scenes a limit makes other ones of train, not the first.
    """
    train = self.train[:limit]
    train = fixed_scenes(train, "train") if self.in_scenes else train
    return {
      "train": fixed_binarization(train, "train") if self.binarization == "dynamic" else train,
      "validation": self.validation[:limit],
      "test": self.test[:limit],
    }


def evenly_spaced(images: np.ndarray, count: int) -> np.ndarray:
  """So many of the images [M, H, W, C], evenly spaced, or all of fewer."""
  return images[np.linspace(0, len(images) - 1, min(count, len(images))).astype(int)]


def load_dataset(name: str, binarization: str, placement: str = "auto", image_size: int = 0) -> Dataset:
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
  in_scenes = two_digits.base_dataset(name) is not None
  if in_scenes and binarization == "static":
    raise UsageError(f"data.binarization = static draws all images once, and {name} makes each anew: take dynamic")
  source = choose_source(name, image_size)
  if not cached_path(source.key).exists():
    check_grayscale(name, source.image_shape, binarization)  # before minutes of decoding
  splits = read_splits(source)
  label_names = tuple(splits.get(LABEL_NAMES, np.array([])).tolist())
  splits = split_validation_test(splits)
  check_grayscale(name, splits["train"].shape[1:], binarization)
  if in_scenes:
    splits = {split: splits[split] for split in SPLITS}  # a scene has no label
    two_digits.check_scene_size(name, splits)
    splits |= {split: fixed_scenes(splits[split], split) for split in ("validation", "test")}
  fixed = {"dynamic": ("validation", "test"), "static": ("train", "validation", "test"), "none": ()}
  for split in fixed[binarization]:
    splits[split] = fixed_binarization(splits[split], split)
  images = {split: splits[split] for split in SPLITS}
  labels = {split: splits[split + LABELS] for split in images if split + LABELS in splits}
  return Dataset(**images, binarization=binarization, in_scenes=in_scenes, labels=labels, label_names=label_names)


def choose_source(name: str, image_size: int) -> Source:
  """As `sources.choose`; for scenes that of what they are made of."""
  return sources.create_source(two_digits.base_dataset(name) or name, image_size)


def check_grayscale(name: str, image_shape: tuple[int, int, int], binarization: str) -> None:
  """Raises UsageError if colour is to be binarised: of its three channels nothing but noise would be left."""
  if binarization != "none" and image_shape[-1] > 1:
    raise UsageError(
      f"{name} is in colour, of which data.binarization = {binarization!r} would leave noise: take"
      " --config.data.binarization=none --config.model.likelihood=discretized_logistic"
    )


def is_prepared(name: str, image_size: int = 0) -> bool:
  """Whether a set can be loaded at once, without a download; raises as `load` does."""
  source = choose_source(name, image_size)
  return cached_path(source.key).exists() or source.is_available


def read_splits(source: Source) -> Splits:
  """Every split of a source, from the cache if it is there."""
  splits = cache.read_cache(source.key)
  if splits is None:
    splits = source.read()
    cache.write_cache(source.key, splits)
  return splits


NUM_HELD_OUT = 10_000  # images of train that become a split which a set lacks

SEED = 0  # of splits, of fixed scenes and of fixed binarisation


def split_validation_test(splits: Splits) -> Splits:
  """Completes a set without validation or test: each is the last 10,000 of what a seeded permutation leaves of train.

  From a set of fewer than 50,000 images each takes a fifth instead. Labels go with their images.
  """
  if "train" not in splits:
    raise UsageError(f"the dataset has no train split, only {', '.join(splits)}")
  num_train = len(splits["train"])
  order = np.random.default_rng(SEED).permutation(num_train)
  count = min(NUM_HELD_OUT, max(1, num_train // 5))

  def of(split):
    return {kind: splits[split + kind] for kind in ("", LABELS) if split + kind in splits}

  completed = {}
  for split in ("validation", "test"):
    if split in splits:
      completed[split] = of(split)
    else:
      order, last = order[:-count], order[-count:]
      completed[split] = {kind: array[last] for kind, array in of("train").items()}
  completed["train"] = of("train")
  if len(order) < num_train:
    completed["train"] = {kind: array[order] for kind, array in completed["train"].items()}
  return {split + kind: array for split, arrays in completed.items() for kind, array in arrays.items()}


def fixed_scenes(images: np.ndarray, split: str) -> np.ndarray:
  """A scene for each of the images [M, H, W, C] of a split, the same at every call."""
  key = jax.random.fold_in(jax.random.key(SEED), SPLITS.index(split))
  return np.asarray(jax.jit(two_digits.compose_scenes)(key, images))


def fixed_binarization(images: np.ndarray, split: str) -> np.ndarray:
  """Images [M, H, W, C] in 0 and 255, each pixel white with probability value / 255, the same at every call."""
  generator = np.random.default_rng([SEED, *split.encode()])
  drawn = np.empty_like(images)
  for start in range(0, len(images), 1000):  # a large set's random numbers would not fit in memory at once
    grey = images[start : start + 1000]
    drawn[start : start + 1000] = 255 * (generator.random(grey.shape, dtype=np.float32) * 255 < grey)
  return drawn
