"""Sets of TensorFlow Datasets (TFDS) with an 8-bit `image` of one size.

TFDS is imported only to read a set that is not cached. Array records are read without TensorFlow, which is imported
only to prepare a set or to read one prepared in another format.
"""

import difflib
import importlib.util
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from latentjax.data.base import LABEL_NAMES, LABELS, SPLITS, Splits, scale_binary
from latentjax.runtime.console import console
from latentjax.runtime.errors import RunError, UsageError, error_reason
from latentjax.runtime.fileio import cache_dir

INSTALL_HINT = "pip install -r requirements-tfds.txt, or pip install 'latentjax[tfds]'"

IMAGE_SHAPES = {  # of well-known sets, which a benchmark needs without TFDS and before a download
  **dict.fromkeys(("mnist", "binarized_mnist", "fashion_mnist", "kmnist", "emnist"), (28, 28, 1)),
  **dict.fromkeys(("svhn_cropped", "cifar10", "cifar100"), (32, 32, 3)),
}


class TFDS:
  """A `Source` by its name, config and version as in `tfds.builder`; `other_names` are candidates for typos."""

  def __init__(self, name: str, other_names: Sequence[str] = ()):
    self.name = self.key = name
    self._other_names = other_names

  @property
  def is_available(self) -> bool:
    readable = self._has_array_records or importlib.util.find_spec("tensorflow") is not None
    return self._builder.is_prepared() and readable

  @property
  def image_shape(self) -> tuple[int, int, int]:
    return IMAGE_SHAPES.get(self._base_name) or self._builder.info.features["image"].shape  # before a download, too

  @property
  def _base_name(self) -> str:
    """Name without config and version."""
    return self.name.split("/")[0].split(":")[0]

  def read(self) -> Splits:
    console.print(f"decoding {self.name} once into {cache_dir()}")
    if not self.is_available:
      _prepare(self._builder)
    splits = {}
    for split in SPLITS:
      if split in self._builder.info.splits:
        splits[split], labels = self._decode(split)
        if labels is not None:
          splits[split + LABELS] = labels
    names = getattr(self._builder.info.features["label"], "names", None) if self._has_labels else None
    return splits | ({LABEL_NAMES: np.array(names)} if names else {})

  def _decode(self, split: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns the images and labels, if any, of a split; pixels of 0 and 1 become 0 and 255."""
    if self._has_array_records:
      examples = self._builder.as_data_source(split=split)
    else:
      examples = self._tfds.as_numpy(self._builder.as_dataset(split=split))
    count = self._builder.info.splits[split].num_examples
    images = np.empty((count, *self.image_shape), np.uint8)
    labels = np.empty(count, np.int64) if self._has_labels else None
    for index, example in enumerate(examples):
      images[index] = example["image"]
      if labels is not None:
        labels[index] = example["label"]
    return scale_binary(images), labels

  @property
  def _has_array_records(self) -> bool:
    return self._builder.info.file_format == self._tfds.core.FileFormat.ARRAY_RECORD

  @property
  def _has_labels(self) -> bool:
    """True if every image has one integer label."""
    label = dict(self._builder.info.features.items()).get("label")
    return getattr(label, "shape", None) == () and np.issubdtype(label.np_dtype, np.integer)

  @cached_property
  def _tfds(self):
    try:
      import tensorflow_datasets
    except ImportError:
      if Path(self.name).is_dir():
        raise UsageError(unknown_dataset_message(self.name, [])) from None
      raise RunError(
        f"data.name = {self.name} is not decoded yet, and decoding needs TFDS. Run {INSTALL_HINT}."
      ) from None
    return tensorflow_datasets

  @cached_property
  def _builder(self):
    """TFDS's builder of the set, perhaps not prepared yet."""
    tfds = self._tfds
    directory = os.environ.get("TFDS_DATA_DIR")  # TFDS reads it when it is imported, and expands ~ not everywhere
    try:
      builder = tfds.builder(self.name, data_dir=directory and os.path.expanduser(directory))
    except (tfds.core.DatasetNotFoundError, ModuleNotFoundError) as error:
      known = tfds.list_builders(with_community_datasets=False)
      if self._base_name in known:  # the set exists, but a package it needs does not
        raise RunError(f"data.name = {self.name!r}: {error}") from None
      raise UsageError(unknown_dataset_message(self.name, [*self._other_names, *known])) from None
    except (ValueError, AssertionError, TypeError) as error:  # no such version, config or option
      raise UsageError(f"data.name = {self.name!r}: {str(error).splitlines()[0]}") from None
    feature = dict(builder.info.features.items()).get("image")
    if not isinstance(feature, tfds.features.Image) or None in feature.shape or feature.np_dtype != np.uint8:
      raise UsageError(f"data.name = {self.name!r} has no 8-bit `image` of one size. Choose another dataset.")
    return builder


def _prepare(builder) -> None:
  """Downloads and prepares a set, after a warning; raises RunError if TFDS cannot."""
  if importlib.util.find_spec("tensorflow") is None:
    raise RunError(
      f"{builder.name} is not prepared as array records in {builder.data_dir}, and preparing it needs TensorFlow"
      f" (training does not). Run {INSTALL_HINT}, or set TFDS_DATA_DIR to a directory where it is prepared."
    )
  console.print(
    f"{builder.name} is not prepared in {builder.data_dir}. TFDS now downloads and prepares it"
    f" (download size: {builder.info.download_size}).\n"
    "To use a directory that already has it, stop and set TFDS_DATA_DIR."
  )
  try:
    builder.download_and_prepare(file_format="array_record")
  except Exception as error:  # TFDS and requests raise many kinds
    raise RunError(
      f"TFDS could not prepare {builder.name} ({error_reason(error)})."
      " Check the network, or set TFDS_DATA_DIR to a directory where it is prepared."
    ) from None


def unknown_dataset_message(name: str, known: Sequence[str]) -> str:
  if Path(name).is_dir():
    return f"data.name = {name!r} is not a known dataset. For the folder of that name, write ./{name}."
  near = difflib.get_close_matches(name, known, n=3)
  hint = f"Did you mean {' or '.join(near)}?" if near else "Try mnist_digits, mnist or binarized_mnist."
  return f"data.name = {name!r} is not a known dataset. {hint}"
