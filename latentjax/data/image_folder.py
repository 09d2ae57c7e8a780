"""The user's own images as files: a folder of images, or a single one to encode.

Shapes: M images of a split, H W C image.
"""

import os
import re
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import NoReturn

import numpy as np

from latentjax.data.base import (
  LABEL_NAMES,
  LABELS,
  SPLITS,
  Splits,
  content_key,
  scale_binary,
  source_label,
  warn_ignored,
)
from latentjax.data.decoding import decode_image, with_channels
from latentjax.data.npz_arrays import NpzImages
from latentjax.runtime.console import console
from latentjax.runtime.errors import UsageError, unreadable
from latentjax.runtime.fileio import cache_dir, expand_user

FORMATS = "PNG, JPEG, WebP, GIF, BMP, TIFF or PNM"  # without animations, see `decode_image`
IMAGE_SUFFIX = re.compile(r"\.(png|jpe?g|jfif|mpo|webp|gif|bmp|tiff?|p[bgpn]m)", re.IGNORECASE)


class ImageFolder:
  """A `Source` of the images below a folder, through links too.

  Subfolders `train`, `validation` and `test` are its splits; without them all files are `train`, in the order of their
  paths. If all images of a split are in subfolders of it, these are their labels. Pixels of a split that are 0 and 1
  become 0 and 255. Hidden and other files are ignored, and counted when the images are decoded. `size` is 0, or the
  side of the square to which images are cropped and resized. With `to_encode`, any split is enough, files of a folder
  without splits are `images`, and a single image may take the place of a folder.
  """

  is_available = True

  def __init__(self, name: str, size: int = 0, to_encode: bool = False):
    self.name, self._size, self._root, self._to_encode = name, size, expand_user(name), to_encode
    self._label = source_label(name, to_encode)

  @cached_property
  def key(self) -> str:
    files = {str(file.relative_to(self._root)): file for files in self._files.values() for file in files}
    return content_key(self.name, self._size, files)

  @cached_property
  def image_shape(self) -> tuple[int, int, int]:
    first = decode_image(self._files["train"][0], self._size)
    return (*first.shape[:2], 1 if first.ndim == 2 else 3)

  @property
  def names(self) -> dict[str, list[str]]:
    """Path of every image of every split, relative to the folder."""
    return {
      split: [str(file.relative_to(self._root)) if file != self._root else file.name for file in files]
      for split, files in self._files.items()
    }

  def read(self) -> Splits:
    if not self._to_encode:
      console.print(f"decoding the images in {self.name} once into {cache_dir()}")
    self._report_ignored()
    decoded = {file: decode_image(file, self._size) for files in self._files.values() for file in files}
    first, shape = next((file, image.shape[:2]) for file, image in decoded.items())
    for file, image in decoded.items():
      if image.shape[:2] != shape:
        raise UsageError(
          f"{file} has {image.shape[0]} x {image.shape[1]} pixels and {first} has {shape[0]} x {shape[1]}. Use images"
          " of one size, or set --config.data.image_size to crop and resize them."
        )
    colored = any(image.ndim == 3 for image in decoded.values())
    images = {
      split: scale_binary(np.stack([with_channels(decoded[file], colored) for file in files]))
      for split, files in self._files.items()
    }
    return images | self._labels()

  @cached_property
  def _folders(self) -> dict[str, Path]:
    folders = {split: self._root / split for split in SPLITS if (self._root / split).is_dir()}
    return folders or {"images" if self._to_encode else "train": self._root}

  @cached_property
  def _found(self) -> tuple[list[Path], list[str]]:
    try:
      return _list_images(self._root)
    except OSError as error:
      raise unreadable(error.filename, error) from None

  @cached_property
  def _files(self) -> dict[str, list[Path]]:
    """The files of every split that has any."""
    images, ignored = self._found
    found = {split: [file for file in images if file.is_relative_to(folder)] for split, folder in self._folders.items()}
    if not (any(found.values()) if self._to_encode else found.get("train")):
      folder = self._root if self._to_encode else self._folders.get("train", self._root / "train")
      only = f", only {', '.join(ignored)}" if ignored else ""
      raise UsageError(f"{self._label}: there are no images in {folder}{only}. Save them as {FORMATS}.")
    return {split: files for split, files in found.items() if files}

  def _report_ignored(self) -> None:
    """Prints the number of ignored files by kind, the images beside the splits, and images that are read twice."""
    images, ignored = self._found
    used = {file for files in self._files.values() for file in files}
    beside = sorted({file.relative_to(self._root).parts[0] for file in images if file not in used})
    warn_ignored(self._label, [*beside, *ignored])
    copies = len(used) - len({(stat.st_dev, stat.st_ino) for stat in map(os.stat, used)})
    if copies:
      console.print(f"{self._label}: {copies} of {len(used)} images are links to others and count again")

  def _labels(self) -> Splits:
    """The subfolder of every image, as a number, for splits whose images are all in subfolders."""
    labels = {}
    for split, files in self._files.items():
      paths = [file.relative_to(self._folders[split]).parts for file in files]
      if all(len(path) > 1 for path in paths):
        labels[split] = [path[0] for path in paths]
    names = sorted({name for split_labels in labels.values() for name in split_labels})
    numbers = {split + LABELS: np.searchsorted(names, labels[split]) for split in labels}
    return numbers | ({LABEL_NAMES: np.array(names)} if names else {})


def _list_images(root: Path) -> tuple[list[Path], list[str]]:
  """Returns the image files below a folder, sorted, and the number of ignored files by kind; a file is returned alone.

  Links are followed, except to a folder above them. Raises UsageError for a broken link, OSError if unreadable.
  """

  def refuse(error: OSError) -> NoReturn:
    raise error

  if root.is_file():
    return [root], []
  images, ignored = [], Counter()
  for name, folders, files in os.walk(root, onerror=refuse, followlinks=True):
    for path in [Path(name, file) for file in files]:
      if path.name.startswith("."):
        ignored["hidden"] += 1
      elif not path.is_file():
        raise UsageError(f"{path} is a broken link or not a file. Repair or remove it.")
      elif IMAGE_SUFFIX.fullmatch(path.suffix):
        images.append(path)
      else:
        ignored[path.suffix.lower() or "without a suffix"] += 1
    for path in [Path(name, folder) for folder in folders]:
      hidden = path.name.startswith(".")
      if hidden or (path.is_symlink() and path.resolve() in {parent.resolve() for parent in path.absolute().parents}):
        ignored["hidden" if hidden else "linking to a folder above"] += 1
        folders.remove(path.name)
  return sorted(images), [f"{count} {kind}" for kind, count in sorted(ignored.items())]


def source_from_path(name: str, size: int) -> ImageFolder | NpzImages | None:
  """Returns the source of a `data.name`; None for a dataset's name, UsageError if there is nothing at a path."""
  path = expand_user(name)
  if path.suffix == ".npz" and path.is_file():
    return NpzImages(name, size)
  if "/" in name and path.is_dir() and not (path / "config.json").is_file():  # that would be a workdir
    return ImageFolder(name, size)
  if path.suffix == ".npz" or name.startswith(("/", "./", "../", "~")):
    if path.is_file():
      raise UsageError(f"data.name = {name!r} is neither a folder nor an .npz. Try np.savez('NAME.npz', train=array).")
    raise UsageError(f"data.name = {name!r}: there is no such folder of images and no such .npz file. Check the path.")
  return None


def source_to_encode(name: str, size: int) -> ImageFolder | NpzImages:
  """Returns the source of `--images`: a folder, a single image or an `.npz`; raises UsageError if there is none."""
  path = expand_user(name)
  if not path.exists():
    raise UsageError(f"--images={name}: there is no such folder, image or .npz file. Check the path.")
  if path.suffix == ".npy":
    raise UsageError(f"--images={name} is an .npy. Write an .npz by np.savez('NAME.npz', images=array).")
  if path.is_file() and path.suffix != ".npz" and not IMAGE_SUFFIX.fullmatch(path.suffix):
    raise UsageError(f"--images={name} is neither a folder nor an .npz nor an image. Save it as {FORMATS}.")
  return (NpzImages if path.suffix == ".npz" and path.is_file() else ImageFolder)(name, size, to_encode=True)
