"""Datasets: the three splits of a set, binarized.

Shapes: M images of a split, H W C image.
"""

import dataclasses
import hashlib
import math
from functools import cached_property

import jax
import numpy as np

from latentjax.data import cache, two_digits
from latentjax.data.base import LABEL_NAMES, LABELS, SPLITS, Splits
from latentjax.data.sources import create_source
from latentjax.runtime.errors import UsageError
from latentjax.runtime.rng import create_key
from latentjax.runtime.signals import cleaning_up

SEED = 0  # of splits, fixed scenes and fixed binarization
NUM_HELD_OUT = 10_000  # images of train that become a missing split
NUM_RANDOM = 10_000  # images of `random_dataset`


@dataclasses.dataclass(frozen=True)
class Dataset:
  """uint8 images [M, H, W, C] of each split, from 0 to 255."""

  train: np.ndarray  # gray if binarization is "dynamic"; for scenes, the smaller images that they are composed of
  validation: np.ndarray  # binary unless binarization is "none", as is test
  test: np.ndarray
  binarization: str  # "dynamic", "static" or "none"
  in_scenes: bool = False  # training batches are composed into scenes
  labels: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)  # [M] of each split that has labels
  label_names: tuple[str, ...] = ()  # of the labels 0, 1 ...; a negative label is unknown

  @property
  def image_shape(self) -> tuple[int, int, int]:
    return self.test.shape[1:]

  @cached_property
  def sha256(self) -> str:
    """Hash of the images of all splits."""
    digest = hashlib.sha256()
    for images in (self.train, self.validation, self.test):
      digest.update(str(images.shape).encode())
      digest.update(np.ascontiguousarray(images))
    return digest.hexdigest()

  def mean_pixels(self) -> np.ndarray:
    """Returns the mean training image in [0, 1]: [H, W, C] float32."""
    images = _fixed_scenes(self.train, "train") if self.in_scenes else self.train
    return (images.mean(0, dtype=np.float64) / 255).astype(np.float32)

  def std_pixels(self) -> np.ndarray:
    """Returns the standard deviation [C] of pixels in [0, 1] around the mean image, from at most 1,000 images."""
    indices = np.linspace(0, len(self.train) - 1, min(1000, len(self.train))).astype(int)  # evenly spaced
    images = self.train[indices]
    images = _fixed_scenes(images, "train") if self.in_scenes else images
    return (np.sqrt(images.var(0, dtype=np.float32).mean((0, 1))) / 255).astype(np.float32)

  def eval_splits(self, limit: int | None = None) -> dict[str, np.ndarray]:
    """Returns the first `limit` images of every split, or all, with train binarized once too.

    A limit changes the scenes of train: they are composed of its first images.
    """
    train = self.train[:limit]
    train = _fixed_scenes(train, "train") if self.in_scenes else train
    return {
      "train": fixed_binarization(train, "train") if self.binarization == "dynamic" else train,
      "validation": self.validation[:limit],
      "test": self.test[:limit],
    }


def load_dataset(name: str, binarization: str, placement: str = "auto", image_size: int = 0) -> Dataset:
  """Loads a dataset; the arguments are the keys of `config.data`.

  Validation and test are binarized once, with a fixed seed; "static" does the same to train. The first call decodes the
  set into the cache; later ones read only that file. `placement` is unused here, see `create_feed`.

  Raises:
    UsageError: There is no such set, its images differ in size, or they cannot be binarized or composed.
    RunError: The set cannot be downloaded or prepared, or the cache cannot be read or written.
  """
  in_scenes = two_digits.base_dataset(name) is not None
  if in_scenes and binarization == "static":
    raise UsageError(
      f"data.binarization = static draws all images once, but {name} composes new ones in every step. Use dynamic."
    )
  source = create_source(name, image_size)
  splits = cache.read_cache(source.key)
  if splits is None:
    _check_grayscale(name, source.image_shape, binarization)  # before minutes of decoding
    with cleaning_up():
      splits = source.read()
      cache.write_cache(source.key, splits)
  return create_dataset(name, splits, binarization)


def create_dataset(name: str, splits: Splits, binarization: str) -> Dataset:
  """Returns the dataset of decoded splits, missing ones held out of train; see `load_dataset`."""
  in_scenes = two_digits.base_dataset(name) is not None
  label_names = tuple(splits.get(LABEL_NAMES, np.array([])).tolist())
  splits = split_validation_test(splits)
  _check_grayscale(name, splits["train"].shape[1:], binarization)
  if in_scenes:
    splits = {split: splits[split] for split in SPLITS}  # a scene has no label
    two_digits.check_scene_size(name, splits)
    splits |= {split: _fixed_scenes(splits[split], split) for split in ("validation", "test")}
  fixed = {"dynamic": ("validation", "test"), "static": ("train", "validation", "test"), "none": ()}
  for split in fixed[binarization]:
    splits[split] = fixed_binarization(splits[split], split)
  images = {split: splits[split] for split in SPLITS}
  labels = {split: splits[split + LABELS] for split in images if split + LABELS in splits}
  return Dataset(**images, binarization=binarization, in_scenes=in_scenes, labels=labels, label_names=label_names)


def random_dataset(name: str, binarization: str, placement: str = "auto", image_size: int = 0) -> Dataset:
  """Returns random pixels in the shape of a dataset, which need not be prepared, to measure speed; see `load_dataset`.

  Every split is the same, but for scenes, whose training images are the smaller ones that they are composed of.
  """
  source, in_scenes = create_source(name, image_size), two_digits.base_dataset(name) is not None
  splits = cache.read_cache(source.key)
  shape = source.image_shape if splits is None else splits["train"].shape[1:]
  _check_grayscale(name, shape, binarization)
  count = max(2, min(NUM_RANDOM, 2**28 // math.prod(shape)))  # at most 256 MiB
  generator = np.random.default_rng(SEED)
  train = images = generator.integers(0, 256, (count, *shape), np.uint8)
  if in_scenes:
    two_digits.check_scene_size(name, {"train": train})
    images = generator.integers(0, 256, (count, two_digits.CANVAS_SIZE, two_digits.CANVAS_SIZE, shape[-1]), np.uint8)
  return Dataset(train, images, images, binarization, in_scenes)


def is_prepared(name: str, image_size: int = 0) -> bool:
  """Returns True if a dataset can be loaded without a download; raises as `load_dataset` does."""
  source = create_source(name, image_size)
  return cache.is_cached(source.key) or source.is_available


def split_validation_test(splits: Splits) -> Splits:
  """Holds out a missing validation or test split: the last 10,000 of a seeded permutation of what is left of train.

  A set of fewer than 50,000 images gives up a fifth instead. Labels go with their images.
  """
  if "train" not in splits:
    raise UsageError(f"The dataset has no train split, only {', '.join(splits)}. Choose another data.name.")
  train = {kind: splits["train" + kind] for kind in ("", LABELS) if "train" + kind in splits}
  order = np.random.default_rng(SEED).permutation(len(train[""]))
  count = min(NUM_HELD_OUT, max(1, len(order) // 5))
  completed = dict(splits)
  for split in ("validation", "test"):
    if split not in splits:
      order, last = order[:-count], order[-count:]
      completed |= {split + kind: array[last] for kind, array in train.items()}
  if len(order) < len(train[""]):
    completed |= {"train" + kind: array[order] for kind, array in train.items()}
  return completed


def fixed_binarization(images: np.ndarray, split: str) -> np.ndarray:
  """Draws every pixel [M, H, W, C] as 255 with probability value / 255, else 0; the same at every call."""
  generator = np.random.default_rng([SEED, *split.encode()])
  drawn = np.empty_like(images)
  for start in range(0, len(images), 1000):  # a large set's random numbers would not fit in memory at once
    gray = images[start : start + 1000]
    drawn[start : start + 1000] = 255 * (generator.random(gray.shape, dtype=np.float32) * 255 < gray)
  return drawn


def _fixed_scenes(images: np.ndarray, split: str) -> np.ndarray:
  """Composes a scene for each image [M, H, W, C] of a split, the same at every call."""
  key = jax.random.fold_in(create_key(SEED), SPLITS.index(split))
  return np.asarray(jax.jit(two_digits.compose_scenes)(key, images))


def _check_grayscale(name: str, image_shape: tuple[int, int, int], binarization: str) -> None:
  """Raises UsageError if colored images are to be binarized."""
  if binarization != "none" and image_shape[-1] > 1:
    raise UsageError(
      f"{name} is in color, which data.binarization = {binarization!r} would turn into noise. Use"
      " --config.data.binarization=none --config.model.likelihood=discretized_logistic"
    )
