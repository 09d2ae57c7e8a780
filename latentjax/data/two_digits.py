"""Scenes of two images at random places of a larger canvas, composed anew in every step.

Shapes: M images of a split, B batch, H W C image, S canvas size.
"""

import chex
import jax
import jax.numpy as jnp

from latentjax.runtime.errors import UsageError

TWO_DIGITS = "two_digits"
CANVAS_SIZE = 60  # S


def base_dataset(name: str) -> str | None:
  """Returns the dataset of a scene's images: mnist for two_digits, NAME for two_digits/NAME, None for other names."""
  kind, _, images = name.partition("/")
  return (images or "mnist") if kind == TWO_DIGITS else None


def check_scene_size(name: str, splits: dict) -> None:
  """Raises UsageError if the images [M, H, W, C] of a split are too few for a pair or too large for the canvas."""
  for split, images in splits.items():
    height, width = images.shape[1:3]
    if max(height, width) > CANVAS_SIZE:
      raise UsageError(
        f"data.name = {name!r}: images of {height} x {width} pixels do not fit on a canvas of"
        f" {CANVAS_SIZE} x {CANVAS_SIZE}. Choose smaller images."
      )
    if len(images) < 2:
      raise UsageError(f"data.name = {name!r} needs two images in every split, but {split} has {len(images)}.")


def compose_scenes(key: jax.Array, images: jax.Array) -> jax.Array:
  """Composes every image with another one of the batch: both anywhere on the canvas, whole, summed and clipped.

  The other image is a random distance further in the batch, the same for all. Any two images may meet, because batches
  are shuffled.

  Args:
    key: A random key.
    images: [B, H, W, C] uint8, at least two.

  Returns:
    Scenes [B, S, S, C] of uint8.
  """
  chex.assert_rank(images, 4)
  distance_key, corner_key = jax.random.split(key)
  count, height, width, channels = images.shape
  distance = jax.random.randint(distance_key, (), 1, count)
  pairs = jnp.stack([images, jnp.roll(images, distance, axis=0)], axis=1)
  places = jnp.array([CANVAS_SIZE - height + 1, CANVAS_SIZE - width + 1])
  corners = jax.random.randint(corner_key, (count, 2, 2), 0, places[None, None])

  def scene(pair, corners):
    canvas = jnp.zeros((CANVAS_SIZE, CANVAS_SIZE, channels), jnp.uint16)
    for image, corner in zip(pair, corners, strict=True):
      canvas = add_at(canvas, image, corner)
    return jnp.minimum(canvas, 255).astype(jnp.uint8)

  return jax.vmap(scene)(pairs, corners)


def add_at(canvas: jax.Array, image: jax.Array, corner: jax.Array) -> jax.Array:
  """Returns the canvas [S, S, C] plus an image [H, W, C] whose first pixel is at `corner` [2], row before column."""
  chex.assert_rank((canvas, image, corner), (3, 3, 1))
  start = (corner[0], corner[1], 0)
  window = jax.lax.dynamic_slice(canvas, start, image.shape)
  return jax.lax.dynamic_update_slice(canvas, window + image.astype(canvas.dtype), start)
