"""A person's own images: a folder of PNG and JPEG files, or an .npz of arrays.

Shapes: M images in a split, H W C image.
"""

import hashlib
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from latentjax.console import console
from latentjax.data.cache import cache_dir
from latentjax.data.disk import Splits
from latentjax.errors import RunError, UsageError

SPLITS = ("train", "validation", "test")
SUFFIXES = (".png", ".jpg", ".jpeg")
LARGEST = 2**16 - 1  # of a pixel of 16 bits


class Folder:
  """PNG and JPEG files of a folder and all below it: a `Source`.

  With subfolders `train`, `validation` and `test` these are the splits; else all files are `train`, in the order of
  their paths, and the other two are held out of it. Hidden files and other kinds of files are passed over.

  Args:
    size: 0, or the S of S x S to which images are cropped at the centre and resized.
  """

  prepared = True

  def __init__(self, name: str, size: int = 0):
    self.name, self._size, self._root = name, size, Path(name).expanduser()

  @cached_property
  def key(self) -> str:
    files = [file for split in self._files.values() for file in split]
    return keyed(self.name, self._size, ((str(file.relative_to(self._root)), read_bytes(file)) for file in files))

  @property
  def num_train(self) -> int:
    return len(self._files["train"])

  @cached_property
  def image_shape(self) -> tuple[int, int, int]:
    first = decode(self._files["train"][0], self._size)
    return (*first.shape[:2], 1 if first.ndim == 2 else 3)

  def read(self) -> Splits:
    console.print(f"decoding the images in {self.name} once into {cache_dir()}")
    decoded = {split: [decode(file, self._size) for file in files] for split, files in self._files.items()}
    first = self._files["train"][0]
    shape = decoded["train"][0].shape[:2]
    for split, files in self._files.items():
      for file, image in zip(files, decoded[split], strict=True):
        if image.shape[:2] != shape:
          raise UsageError(
            f"{file} has {image.shape[0]} x {image.shape[1]} pixels and {first} has {shape[0]} x {shape[1]}: all must"
            " be of one size, or --config.data.image_size=64 crops and resizes them"
          )
    coloured = any(image.ndim == 3 for images in decoded.values() for image in images)
    return {split: np.stack([with_channels(image, coloured) for image in images]) for split, images in decoded.items()}

  def open(self) -> Splits:
    raise UsageError(f"data.placement = disk is for TFDS sets, not for the images in {self.name}")

  @cached_property
  def _files(self) -> dict[str, list[Path]]:
    """The files of every split."""
    parts = {split: self._root / split for split in SPLITS if (self._root / split).is_dir()}
    found = {split: images_below(folder) for split, folder in (parts or {"train": self._root}).items()}
    if not found.get("train"):
      where = self._root / "train" if parts else self._root
      raise UsageError(f"data.name = {self.name!r}: there are no PNG or JPEG files in {where}")
    return {split: files for split, files in found.items() if files}


class Arrays:
  """An .npz with uint8 arrays `train`, and maybe `validation` and `test`, [M, H, W] or [M, H, W, C]: a `Source`.

  Pixels from 0 to 255, or 0 and 1.
  """

  prepared = True

  def __init__(self, name: str, size: int = 0):
    self.name, self._size, self._path = name, size, Path(name).expanduser()

  @cached_property
  def key(self) -> str:
    return keyed(self.name, self._size, [("", read_bytes(self._path))])

  @property
  def num_train(self) -> int:
    return len(self._arrays["train"])

  @property
  def image_shape(self) -> tuple[int, int, int]:
    return self._arrays["train"].shape[1:]

  def read(self) -> Splits:
    return self._arrays

  def open(self) -> Splits:
    raise UsageError(f"data.placement = disk is for TFDS sets, not for {self.name}")

  @cached_property
  def _arrays(self) -> Splits:
    try:
      with self._path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        found = {split: arrays[split] for split in SPLITS if split in arrays.files}
        names = arrays.files
    except Exception as error:  # zip, zlib and numpy each have their own for a damaged file
      kind = type(error).__name__  # numpy's own words recommend to unpickle
      raise RunError(f"data.name = {self.name!r} cannot be read as an .npz of arrays of numbers ({kind})") from None
    if "train" not in found:
      raise UsageError(f"data.name = {self.name!r} has no array `train`, only {', '.join(names) or 'nothing'}")
    expected = found["train"].shape[1:]
    for split, images in found.items():
      if images.dtype != np.uint8 or images.ndim not in (3, 4) or images.shape[3:] not in ((), (1,), (3,)):
        raise UsageError(
          f"{split} in {self.name} must be uint8 [M, H, W], [M, H, W, 1] or [M, H, W, 3], not {images.dtype}"
          f" {list(images.shape)}"
        )
      if not images.size or images.shape[1:] != expected:
        raise UsageError(f"{split} in {self.name} is {list(images.shape)}, and train is {list(found['train'].shape)}")
    found = {split: images if images.ndim == 4 else images[..., None] for split, images in found.items()}
    factor = 255 if max(images.max() for images in found.values()) == 1 else 1  # binary images are often 0 and 1
    return {split: self._resized(images * np.uint8(factor)) for split, images in found.items()}

  def _resized(self, images: np.ndarray) -> np.ndarray:
    if not self._size:
      return images
    pictures = (Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image) for image in images)
    return np.stack(
      [with_channels(np.asarray(fit(picture, self._size)), images.shape[-1] == 3) for picture in pictures]
    )


def keyed(name: str, size: int, contents: Iterable[tuple[str, bytes]]) -> str:
  """What the cache calls a set: its last name and a hash of all that it is made from."""
  total = hashlib.sha256(f"{size}".encode())
  for path, content in contents:
    total.update(f"{path}\0{len(content)}\0".encode(errors="surrogateescape"))
    total.update(content)
  return f"{Path(name).stem}-{total.hexdigest()[:16]}"


def images_below(folder: Path) -> list[Path]:
  """All PNG and JPEG files, sorted by their path; what is hidden is passed over."""
  files = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
  return sorted(file for file in files if not any(part.startswith(".") for part in file.relative_to(folder).parts))


def read_bytes(path: Path) -> bytes:
  try:
    return path.read_bytes()
  except OSError as error:
    raise RunError(f"cannot read {path} ({error.strerror})") from None


def decode(path: Path, size: int) -> np.ndarray:
  """[H, W] of a grey image, [H, W, 3] of a coloured one, uint8.

  Turned as its EXIF data say; what is transparent lies on white; 16 bits become 8.

  Raises:
    UsageError: it is animated.
    RunError: it is empty or broken.
  """
  try:
    with Image.open(path) as picture:
      if getattr(picture, "n_frames", 1) > 1:
        raise UsageError(f"{path} is animated: give each of its pictures as a file of its own")
      picture = ImageOps.exif_transpose(picture)
      picture = fit(to_8_bits(picture), size) if size else to_8_bits(picture)
      return np.asarray(picture)
  except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # as Pillow tells of a broken file
    raise RunError(f"{path} cannot be read as an image ({error}): repair or remove it") from None


def to_8_bits(picture: Image.Image) -> Image.Image:
  """The picture in mode L or RGB."""
  if picture.mode.startswith(("I", "F")):
    numbers = np.asarray(picture).astype(np.float64) * 255 / LARGEST
    return Image.fromarray(np.rint(np.clip(numbers, 0, 255)).astype(np.uint8))
  if picture.has_transparency_data:
    picture = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
  return picture.convert("L" if picture.mode in ("1", "L") else "RGB")


def fit(picture: Image.Image, size: int) -> Image.Image:
  """Cropped to the square at the centre, and resized to `size`."""
  width, height = picture.size
  side = min(width, height)
  left, top = (width - side) // 2, (height - side) // 2
  return picture.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.LANCZOS)


def with_channels(image: np.ndarray, coloured: bool) -> np.ndarray:
  """[H, W, 3] if the set is coloured, else [H, W, 1]."""
  if image.ndim == 2:
    image = image[..., None]
  return np.repeat(image, 3, axis=-1) if coloured and image.shape[-1] == 1 else image


def choose(name: str, size: int) -> Folder | Arrays | None:
  """The source where a name is a path; None where it is the name of a set.

  Raises:
    UsageError: nothing is there.
  """
  path = Path(name).expanduser()
  if path.is_dir():
    return Folder(name, size)
  if path.suffix == ".npz" and path.is_file():
    return Arrays(name, size)
  if path.suffix == ".npz" or name.startswith(("/", "./", "../", "~")):
    raise UsageError(f"data.name = {name!r}: there is no such folder of images, and no such .npz file")
  return None
