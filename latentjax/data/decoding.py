"""Decoding of image files to uint8 arrays, gray or colored.

Shapes: H W C image.
"""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from latentjax.runtime.errors import UsageError, damaged, unreadable


def decode_image(path: Path, size: int) -> np.ndarray:
  """Returns uint8 [H, W] of a gray image, [H, W, 3] of a colored one, cropped and resized to a `size` above 0.

  EXIF orientation is applied, transparency is drawn on white, and 16 bits become 8. Of an MPO, which phones and stereo
  cameras write, only the first picture is read. Raises UsageError for an animated image and one of several pages, of
  32-bit pixels or too large for Pillow, and RunError for a broken one.
  """
  try:
    with warnings.catch_warnings(action="ignore"), Image.open(path) as image:  # Pillow's warnings quote its source
      if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        raise UsageError(f"{path} is animated or has several pages. Save each as a separate file.")
      if image.mode == "F" or (image.mode == "I" and image.format == "TIFF"):
        raise UsageError(f"{path} has 32-bit pixels, whose range is unknown. Save it with 8 or 16 bits.")
      pixels = np.asarray(_to_8_bits(ImageOps.exif_transpose(image)))
  except (UsageError, MemoryError):
    raise
  except Image.DecompressionBombError:
    raise UsageError(f"{path} has over {2 * Image.MAX_IMAGE_PIXELS:,} pixels. Make it smaller.") from None
  except Exception as error:  # Pillow raises many kinds for a broken file
    if isinstance(error, OSError) and error.errno is not None:
      raise unreadable(path, error) from None
    raise damaged(path, "Repair or remove it", str(error)) from None
  pixels = crop_and_resize(pixels, size) if size else pixels
  return pixels[..., 0] if pixels.ndim == 3 and is_gray(pixels) else pixels


def is_gray(images: np.ndarray) -> bool:
  """Returns True if images [..., C] are gray, though perhaps stored in color: all channels are equal everywhere."""
  return bool((images == images[..., :1]).all())


def _to_8_bits(image: Image.Image) -> Image.Image:
  if image.mode.startswith("I"):
    pixels = np.asarray(image).astype(np.float64) * 255 / np.iinfo(np.uint16).max
    return Image.fromarray(np.rint(np.clip(pixels, 0, 255)).astype(np.uint8))
  mode = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
  if image.has_transparency_data:
    image = image.convert("RGBA")
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
  return image.convert(mode)


def crop_and_resize(pixels: np.ndarray, size: int) -> np.ndarray:
  """Crops uint8 [H, W] or [H, W, 3] to the central square and resizes it to `size`."""
  height, width = pixels.shape[:2]
  side = min(width, height)
  left, top = (width - side) // 2, (height - side) // 2
  square = Image.fromarray(pixels[top : top + side, left : left + side])
  return np.asarray(square.resize((size, size), Image.Resampling.LANCZOS))


def with_channels(image: np.ndarray, colored: bool) -> np.ndarray:
  """Returns the image as [H, W, 3] if `colored`, else [H, W, 1]."""
  if image.ndim == 2:
    image = image[..., None]
  return np.repeat(image, 3, axis=-1) if colored and image.shape[-1] == 1 else image
