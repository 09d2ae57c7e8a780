"""The user's own images as files: a folder of PNG and JPEG files, or a single image to encode.

Shapes: M images of a split, H W C image.
"""

from functools import cached_property
from pathlib import Path

import numpy as np

from latentjax.data.base import LABEL_NAMES, LABELS, SPLITS, Splits, content_key, source_label, warn_ignored
from latentjax.data.decoding import decode_image, with_channels
from latentjax.data.npz_arrays import NpzImages
from latentjax.runtime.console import console
from latentjax.runtime.errors import UsageError
from latentjax.runtime.fileio import cache_dir, expand_user

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


class ImageFolder:
  """A `Source` of the PNG and JPEG files below a folder.

  Subfolders `train`, `validation` and `test` are its splits; without them all files are `train`, in the order of their
  paths. If all images of a split are in subfolders of it, these are their labels. Hidden and other files are ignored.
  `size` is 0, or the side of the square to which images are cropped and resized. With `to_encode`, any split is enough,
  files of a folder without splits are `images`, and a single image may take the place of a folder.
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
    if self._root not in self._folders.values():
      names = {file.relative_to(self._root).parts[0] for file in _list_images(self._root)}
      warn_ignored(self._label, sorted(names - {folder.name for folder in self._folders.values()}))
    decoded = {file: decode_image(file, self._size) for files in self._files.values() for file in files}
    first, shape = next((file, image.shape[:2]) for file, image in decoded.items())
    for file, image in decoded.items():
      if image.shape[:2] != shape:
        raise UsageError(
          f"{file} has {image.shape[0]} x {image.shape[1]} pixels and {first} has {shape[0]} x {shape[1]}. Use images"
          " of one size, or set --config.data.image_size to crop and resize them."
        )
    coloured = any(image.ndim == 3 for image in decoded.values())
    images = {
      split: np.stack([with_channels(decoded[file], coloured) for file in files])
      for split, files in self._files.items()
    }
    return images | self._labels()

  @cached_property
  def _folders(self) -> dict[str, Path]:
    folders = {split: self._root / split for split in SPLITS if (self._root / split).is_dir()}
    return folders or {"images" if self._to_encode else "train": self._root}

  @cached_property
  def _files(self) -> dict[str, list[Path]]:
    """The files of every split that has any."""
    found = {split: _list_images(folder) for split, folder in self._folders.items()}
    if not (any(found.values()) if self._to_encode else found.get("train")):
      folder = self._root if self._to_encode else self._folders.get("train", self._root / "train")
      raise UsageError(f"{self._label}: there are no PNG or JPEG files in {folder}.")
    return {split: files for split, files in found.items() if files}

  def _labels(self) -> Splits:
    """The subfolder of every image, as a number, for splits whose images are all in subfolders."""
    labels = {}
    for split, files in self._files.items():
      paths = [file.relative_to(self._folders[split]).parts for file in files]
      if all(len(path) > 1 for path in paths):
        labels[split] = [path[0] for path in paths]
    names = sorted({name for split_labels in labels.values() for name in split_labels})
    numbers = {split + LABELS: np.array([names.index(name) for name in labels[split]]) for split in labels}
    return numbers | ({LABEL_NAMES: np.array(names)} if names else {})


def _list_images(folder: Path) -> list[Path]:
  """Returns the PNG and JPEG files below a folder that are not hidden, sorted; a file is returned alone."""
  if folder.is_file():
    return [folder]
  files = (path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
  return sorted(file for file in files if not any(part.startswith(".") for part in file.relative_to(folder).parts))


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
    raise UsageError(f"data.name = {name!r}: there is no such folder of images and no such .npz file.")
  return None


def source_to_encode(name: str, size: int) -> ImageFolder | NpzImages:
  """Returns the source of `--images`: a folder, a single image or an `.npz`; raises UsageError if there is none."""
  path = expand_user(name)
  if not path.exists():
    raise UsageError(f"--images={name}: there is no such folder, image or .npz file. Check the path.")
  if path.suffix == ".npy":
    raise UsageError(f"--images={name} is an .npy. Write an .npz by np.savez('NAME.npz', images=array).")
  if path.is_file() and path.suffix.lower() not in (*IMAGE_SUFFIXES, ".npz"):
    raise UsageError(f"--images={name} is not a folder, {', '.join(IMAGE_SUFFIXES)} or .npz file.")
  return (NpzImages if path.suffix == ".npz" and path.is_file() else ImageFolder)(name, size, to_encode=True)
