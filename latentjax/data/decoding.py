"""An image file becomes an array: every kind of pixel 8 bits, grey or coloured, and of one size where one is asked for.

Shapes: H W C image.
"""

import struct
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from latentjax.errors import RunError, UsageError, unreadable

LARGEST = 2**16 - 1  # of a pixel of 16 bits


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
    numbers = np.asarray(picture).astype(np.float64) * 255 / LARGEST
    return Image.fromarray(np.rint(np.clip(numbers, 0, 255)).astype(np.uint8))
  mode = "L" if picture.mode in ("1", "L", "LA", "La") else "RGB"
  if picture.has_transparency_data:
    picture = picture.convert("RGBA")
    picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
  return picture.convert(mode)


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
