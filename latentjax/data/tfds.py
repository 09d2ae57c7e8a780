"""Any set of TFDS with an 8-bit `image` of one size.

TFDS is not imported before a set is asked for something, so a cached set trains without it. Array records are read
without TensorFlow, which is imported only to prepare a set, or to read one that was prepared in another format.
"""

import difflib
import importlib.util
import textwrap
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from latentjax.data.base import LABEL_NAMES, LABELS, SPLITS, Splits
from latentjax.runtime.console import console
from latentjax.runtime.errors import RunError, UsageError
from latentjax.runtime.fileio import cache_dir

INSTALL_HINT = "pip install -r requirements-tfds.txt, or 'latentjax[tfds]'"


class TFDS:
  """A set of TFDS by its name there: a `Source`.

  Args:
    others: names of sets that are not of TFDS, for who mistypes one.
  """

  def __init__(self, name: str, others: Sequence[str] = ()):
    self.name = self.key = name
    self._others = others

  @property
  def is_available(self) -> bool:
    return self._found.is_prepared()

  @property
  def image_shape(self) -> tuple[int, int, int]:
    return self._found.info.features["image"].shape  # which is known before a download

  def read(self) -> Splits:
    """See `Source`."""
    console.print(f"decoding {self.name} once into {cache_dir()}")
    splits = {}
    for split in SPLITS:
      if split in self._builder.info.splits:
        splits[split], labels = self._decode(split)
        if labels is not None:
          splits[split + LABELS] = labels
    names = getattr(self._builder.info.features["label"], "names", None) if self._labelled else None
    return splits | ({LABEL_NAMES: np.array(names)} if names else {})

  def _decode(self, split: str) -> tuple[np.ndarray, np.ndarray | None]:
    """All images of a split, and their labels if it has them; sets of pixels 0 and 1 are scaled to 0 and 255."""
    if self._of_array_records:
      examples = self._builder.as_data_source(split=split)
    else:
      examples = self._tfds.as_numpy(self._builder.as_dataset(split=split))
    count = self._builder.info.splits[split].num_examples
    images = np.empty((count, *self.image_shape), np.uint8)
    labels = np.empty(count, np.int64) if self._labelled else None
    for index, example in enumerate(examples):
      images[index] = example["image"]
      if labels is not None:
        labels[index] = example["label"]
    return images * 255 if images.max() == 1 else images, labels

  @property
  def _labelled(self) -> bool:
    """True if the set has one integer label for every image."""
    label = dict(self._found.info.features.items()).get("label")
    return getattr(label, "shape", None) == () and np.issubdtype(label.np_dtype, np.integer)

  @property
  def _of_array_records(self) -> bool:
    return self._builder.info.file_format == self._tfds.core.FileFormat.ARRAY_RECORD

  @cached_property
  def _tfds(self):
    try:
      import tensorflow_datasets
    except ImportError:
      raise RunError(f"data.name = {self.name} is not decoded yet, which needs TFDS: {INSTALL_HINT}") from None
    return tensorflow_datasets

  @cached_property
  def _builder(self):
    """TFDS's builder of the set, downloaded and prepared where that has not been done."""
    if not self._found.is_prepared():
      prepare(self._found)
    return self._found

  @cached_property
  def _found(self):
    """The builder as it is found."""
    tfds = self._tfds
    try:
      builder = tfds.builder(self.name)
    except (tfds.core.DatasetNotFoundError, ModuleNotFoundError) as error:
      known = tfds.list_builders(with_community_datasets=False)
      if self.name.split("/")[0].split(":")[0] in known:  # the set exists, but a package that prepares it does not
        raise RunError(f"data.name = {self.name!r}: {error}") from None
      raise UsageError(unknown_dataset_message(self.name, [*self._others, *known])) from None
    except (ValueError, AssertionError, TypeError) as error:  # a version, config or option that the set does not have
      raise UsageError(f"data.name = {self.name!r}: {str(error).splitlines()[0]}") from None
    feature = dict(builder.info.features.items()).get("image")
    if not isinstance(feature, tfds.features.Image) or None in feature.shape or feature.np_dtype != np.uint8:
      raise UsageError(f"data.name = {self.name!r} has no 8-bit `image` of one size, which every model here needs")
    return builder


def prepare(builder) -> None:
  """Lets TFDS download and prepare a set, and says so first: it may take minutes and needs the network.

  Raises:
    RunError: it cannot; without TensorFlow it never can.
  """
  if importlib.util.find_spec("tensorflow") is None:
    raise RunError(
      f"{builder.name} is not prepared in {builder.data_dir}, and preparing it needs TensorFlow (training does not):"
      f" {INSTALL_HINT}, or set TFDS_DATA_DIR to a directory where it is prepared"
    )
  console.print(
    f"{builder.name} is not prepared in {builder.data_dir}: TFDS now downloads and prepares it"
    f" ({builder.info.download_size} of downloads).\n"
    "To use a directory that already has it, stop and set TFDS_DATA_DIR."
  )
  try:
    builder.download_and_prepare(file_format="array_record")
  except Exception as error:  # TFDS and requests raise many kinds; none of them is this program's mistake
    reason = textwrap.shorten(f"{type(error).__name__}: {error}", 160)
    raise RunError(
      f"TFDS could not prepare {builder.name} ({reason}):"
      " connect to the network, or set TFDS_DATA_DIR to a directory where it is prepared"
    ) from None


def unknown_dataset_message(name: str, known: Sequence[str]) -> str:
  if Path(name).is_dir():
    return f"data.name = {name!r} is no known dataset: for the folder of that name give ./{name}"
  near = difflib.get_close_matches(name, known, n=3)
  hint = f"did you mean {' or '.join(near)}?" if near else "try mnist_digits, mnist or binarized_mnist"
  return f"data.name = {name!r} is no known dataset: {hint}"
