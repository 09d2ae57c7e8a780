"""Scenes: two images of a set at random places of a larger canvas, made anew in every step.

Shapes: B batch, H W C image, S canvas size.
"""

import jax
import jax.numpy as jnp

from latentjax.runtime.errors import UsageError

TWO_DIGITS = "two_digits"

CANVAS_SIZE = 60  # S


def base_dataset(name: str) -> str | None:
  """The set whose images lie in the scenes of a `data.name`, None where these are no scenes.

  Of two_digits it is mnist, of two_digits/NAME the one of that name.
  """
  kind, _, images = name.partition("/")
  return (images or "mnist") if kind == TWO_DIGITS else None


def check_scene_size(name: str, splits: dict) -> None:
  """Raises UsageError where a split is too small for a pair, or its images too large for the canvas.

  Args:
    splits: arrays [M, H, W, C] by split.
  """
  for split, images in splits.items():
    height, width = images.shape[1:3]
    if max(height, width) > CANVAS_SIZE:
      raise UsageError(
        f"data.name = {name!r}: images of {height} x {width} pixels do not fit on a canvas of"
        f" {CANVAS_SIZE} x {CANVAS_SIZE}"
      )
    if len(images) < 2:
      raise UsageError(f"data.name = {name!r} needs two images in every split, and {split} has {len(images)}")


def compose_scenes(key: jax.Array, images: jax.Array) -> jax.Array:
  """[B, S, S, C] uint8: every image and another one of the batch, summed and clipped.

  Each lies anywhere on the canvas, whole. The other is a random distance further in the batch, the same for all: any
  two images may meet, because a batch's order is random.

  Args:
    images: [B, H, W, C] uint8, at least two.
  """
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
  """The canvas [S, S, C] plus an image [H, W, C] whose first pixel lies at `corner` [2], row before column."""
  start = (corner[0], corner[1], 0)
  there = jax.lax.dynamic_slice(canvas, start, image.shape)
  return jax.lax.dynamic_update_slice(canvas, there + image.astype(canvas.dtype), start)
