"""Decoding of image files to uint8 arrays, gray or colored.

Shapes: H W C image.
"""

import struct
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from latentjax.runtime.errors import UsageError, damaged, unreadable

PILLOW_ERRORS = (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError)  # of broken files


def decode_image(path: Path, size: int) -> np.ndarray:
  """Returns uint8 [H, W] of a gray image, [H, W, 3] of a colored one, cropped and resized to a `size` above 0.

  EXIF orientation is applied, transparency is drawn on white, and 16 bits become 8. Raises UsageError for an animated
  image, and RunError for a broken one.
  """
  try:
    with Image.open(path) as image:
      if getattr(image, "n_frames", 1) > 1:
        raise UsageError(f"{path} is animated. Save each frame as a separate file.")
      image = _to_8_bits(ImageOps.exif_transpose(image))
      return np.asarray(crop_and_resize(image, size) if size else image)
  except PermissionError as error:
    raise unreadable(path, error) from None
  except PILLOW_ERRORS as error:
    raise damaged(path, "Repair or remove it", str(error)) from None


def _to_8_bits(image: Image.Image) -> Image.Image:
  if image.mode.startswith(("I", "F")):
    pixels = np.asarray(image).astype(np.float64) * 255 / np.iinfo(np.uint16).max
    return Image.fromarray(np.rint(np.clip(pixels, 0, 255)).astype(np.uint8))
  mode = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
  if image.has_transparency_data:
    image = image.convert("RGBA")
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
  return image.convert(mode)


def crop_and_resize(image: Image.Image, size: int) -> Image.Image:
  """Crops to the central square and resizes to `size`."""
  width, height = image.size
  side = min(width, height)
  left, top = (width - side) // 2, (height - side) // 2
  return image.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.LANCZOS)


def with_channels(image: np.ndarray, coloured: bool) -> np.ndarray:
  """Returns the image as [H, W, 3] if `coloured`, else [H, W, 1]."""
  if image.ndim == 2:
    image = image[..., None]
  return np.repeat(image, 3, axis=-1) if coloured and image.shape[-1] == 1 else image
