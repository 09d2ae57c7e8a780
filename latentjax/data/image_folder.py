"""A person's own images as files: a folder of PNG and JPEG files; a single image only to be encoded.

Shapes: M images in a split, H W C image.
"""

from functools import cached_property
from pathlib import Path

import numpy as np

from latentjax.data.base import LABEL_NAMES, LABELS, SPLITS, Splits
from latentjax.data.decoding import content_key, decode_image, read_bytes, source_label, warn_ignored, with_channels
from latentjax.data.npz_arrays import NpzImages
from latentjax.runtime.console import console
from latentjax.runtime.errors import UsageError
from latentjax.runtime.fileio import cache_dir, expand_user

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


class ImageFolder:
  """PNG and JPEG files of a folder and all below it: a `Source`.

  With subfolders `train`, `validation` and `test` these are the splits; else all files are `train`, in the order of
  their paths, and the other two are held out of it. Hidden files and other kinds of files are passed over. Where all
  images of a split lie in subfolders of it, these are their labels.

  Args:
    size: 0, or the S of S x S to which images are cropped at the centre and resized.
    to_encode: these are no training images: any split will do, those of a folder without subfolders named after splits
      are `images`, and it may be a single image in place of a folder.
  """

  is_available = True

  def __init__(self, name: str, size: int = 0, to_encode: bool = False):
    self.name, self._size, self._root, self._to_encode = name, size, expand_user(name), to_encode

  @cached_property
  def key(self) -> str:
    files = [file for split in self._files.values() for file in split]
    return content_key(self.name, self._size, ((str(file.relative_to(self._root)), read_bytes(file)) for file in files))

  @cached_property
  def image_shape(self) -> tuple[int, int, int]:
    first = decode_image(self._files["train"][0], self._size)
    return (*first.shape[:2], 1 if first.ndim == 2 else 3)

  @property
  def names(self) -> dict[str, list[str]]:
    """The path of every image of every split, from the folder on."""
    return {
      split: [str(file.relative_to(self._root)) if file != self._root else file.name for file in files]
      for split, files in self._files.items()
    }

  def read(self) -> Splits:
    if not self._to_encode:
      console.print(f"decoding the images in {self.name} once into {cache_dir()}")
    warn_ignored(source_label(self.name, self._to_encode), self._passed_over())
    decoded = {split: [decode_image(file, self._size) for file in files] for split, files in self._files.items()}
    first, shape = next((files[0], decoded[split][0].shape[:2]) for split, files in self._files.items())
    for split, files in self._files.items():
      for file, image in zip(files, decoded[split], strict=True):
        if image.shape[:2] != shape:
          raise UsageError(
            f"{file} has {image.shape[0]} x {image.shape[1]} pixels and {first} has {shape[0]} x {shape[1]}: all must"
            " be of one size, or let --config.data.image_size crop and resize them"
          )
    coloured = any(image.ndim == 3 for images in decoded.values() for image in images)
    stacked = {split: [with_channels(image, coloured) for image in images] for split, images in decoded.items()}
    return {split: np.stack(images) for split, images in stacked.items()} | self._labels

  @cached_property
  def _folders(self) -> dict[str, Path]:
    """Where every split is."""
    parts = {split: self._root / split for split in SPLITS if (self._root / split).is_dir()}
    return parts or {"images" if self._to_encode else "train": self._root}

  def _passed_over(self) -> list[str]:
    """What has images beside the folders of splits, where there are some."""
    if self._root in self._folders.values():
      return []
    names = {file.relative_to(self._root).parts[0] for file in list_images(self._root)}
    return sorted(names - {folder.name for folder in self._folders.values()})

  @cached_property
  def _files(self) -> dict[str, list[Path]]:
    """The files of every split that has some."""
    found = {split: list_images(folder) for split, folder in self._folders.items()}
    if not (any(found.values()) if self._to_encode else found.get("train")):
      where = self._root if self._to_encode else self._folders.get("train", self._root / "train")
      raise UsageError(f"{source_label(self.name, self._to_encode)}: there are no PNG or JPEG files in {where}")
    return {split: files for split, files in found.items() if files}

  @cached_property
  def _labels(self) -> Splits:
    """Of every split whose images all lie in subfolders, which one of these each lies in, by its place among them."""
    paths = {
      split: [file.relative_to(self._folders[split]).parts for file in self._files[split]] for split in self._files
    }
    labels = {
      split: [path[0] for path in of_split]
      for split, of_split in paths.items()
      if all(len(path) > 1 for path in of_split)
    }
    names = sorted({name for of_split in labels.values() for name in of_split})
    numbers = {split + LABELS: np.array([names.index(name) for name in of_split]) for split, of_split in labels.items()}
    return numbers | ({LABEL_NAMES: np.array(names)} if names else {})


def list_images(folder: Path) -> list[Path]:
  """All PNG and JPEG files, sorted by their path, or the file that it is; what is hidden is passed over."""
  if folder.is_file():
    return [folder]
  files = (path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
  return sorted(file for file in files if not any(part.startswith(".") for part in file.relative_to(folder).parts))


def source_from_path(name: str, size: int) -> ImageFolder | NpzImages | None:
  """The source where a name is a path; None where it is the name of a set, whatever else has that name here.

  Raises:
    UsageError: nothing is there.
  """
  path = expand_user(name)
  if path.suffix == ".npz" and path.is_file():
    return NpzImages(name, size)
  if "/" in name and path.is_dir() and not (path / "config.json").is_file():  # that is a run's workdir
    return ImageFolder(name, size)
  if path.suffix == ".npz" or name.startswith(("/", "./", "../", "~")):
    if path.is_file():
      raise UsageError(f"data.name = {name!r} is no folder and no .npz: np.savez('NAME.npz', train=array) writes one")
    raise UsageError(f"data.name = {name!r}: there is no such folder of images, and no such .npz file")
  return None


def source_to_encode(name: str, size: int) -> ImageFolder | NpzImages:
  """The images of a folder, of a single file, or of an .npz.

  Args:
    size: as of `Folder`.

  Raises:
    UsageError: nothing is there.
  """
  path = expand_user(name)
  if not path.exists():
    raise UsageError(f"--images={name}: there is no such folder, image or .npz file")
  if path.suffix == ".npy":
    raise UsageError(f"--images={name}: an array comes in an .npz, as np.savez('NAME.npz', images=array) writes it")
  if path.is_file() and path.suffix.lower() not in (*IMAGE_SUFFIXES, ".npz"):
    raise UsageError(f"--images={name} is none of {', '.join(IMAGE_SUFFIXES)} and .npz, nor a folder")
  return (NpzImages if path.suffix == ".npz" and path.is_file() else ImageFolder)(name, size, to_encode=True)
