"""An image file becomes an array: every kind of pixel 8 bits, grey or coloured, and of one size where one is asked for.

Shapes: H W C image.
"""

import hashlib
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from latentjax.runtime.console import console
from latentjax.runtime.errors import RunError, UsageError, unreadable

MAX_UINT16 = 2**16 - 1  # of a pixel of 16 bits


def decode_image(path: Path, size: int) -> np.ndarray:
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
      picture = crop_and_resize(to_8_bits(picture), size) if size else to_8_bits(picture)
      return np.asarray(picture)
  except PermissionError as error:
    raise unreadable(path, error) from None
  except (
    OSError,
    SyntaxError,
    ValueError,
    struct.error,
    Image.DecompressionBombError,
  ) as error:  # as Pillow tells of a broken file
    raise RunError(f"{path} cannot be read as an image ({error}): repair or remove it") from None


def to_8_bits(picture: Image.Image) -> Image.Image:
  """The picture in mode L or RGB."""
  if picture.mode.startswith(("I", "F")):
    numbers = np.asarray(picture).astype(np.float64) * 255 / MAX_UINT16
    return Image.fromarray(np.rint(np.clip(numbers, 0, 255)).astype(np.uint8))
  mode = "L" if picture.mode in ("1", "L", "LA", "La") else "RGB"
  if picture.has_transparency_data:
    picture = picture.convert("RGBA")
    picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
  return picture.convert(mode)


def crop_and_resize(picture: Image.Image, size: int) -> Image.Image:
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


def source_label(name: str, to_encode: bool) -> str:
  """How a person named these images."""
  return f"--images={name}" if to_encode else f"data.name = {name!r}"


def warn_ignored(said: str, names: Sequence[str]) -> None:
  """Names what lies beside the images that are taken: perhaps a split is misspelt.

  Args:
    said: see `asked`.
  """
  if names:
    console.print(f"{said}: {', '.join(names)} {'is' if len(names) == 1 else 'are'} passed over")


def content_key(name: str, size: int, contents: Iterable[tuple[str, bytes]]) -> str:
  """What the cache calls a set: its last name and a hash of all that it is made from."""
  total = hashlib.sha256(f"{size}".encode())
  for path, content in contents:
    total.update(f"{path}\0{len(content)}\0".encode(errors="surrogateescape"))
    total.update(content)
  return f"{Path(name).stem}-{total.hexdigest()[:16]}"


def read_bytes(path: Path) -> bytes:
  try:
    return path.read_bytes()
  except OSError as error:
    raise unreadable(path, error) from None
