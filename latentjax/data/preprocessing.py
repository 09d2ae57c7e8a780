"""Preprocessing on the device, inside jit: shuffle, gather and binarize.

Shapes: M images in the set, S steps of a chunk, B batch, H W C image.
"""

import chex
import jax
import jax.numpy as jnp


def epoch_order(key: jax.Array, epoch: jax.Array, num_images: int) -> jax.Array:
  """Returns the order [M] of the images in an epoch."""
  return jax.random.permutation(jax.random.fold_in(key, epoch), num_images)


def gather(images: jax.Array, order: jax.Array, index: jax.Array, batch_size: int) -> jax.Array:
  """Returns a batch [B, H, W, C] of uint8.

  Args:
    images: All images [M, H, W, C], or the batches [S, B, H, W, C] of a chunk.
    order: The order [M] of all images, or the index [] of the chunk's first batch.
    index: The batch's index [] in its epoch.
    batch_size: B.
  """
  chex.assert_rank(order, {0, 1})
  chex.assert_rank(images, 5 if order.ndim == 0 else 4)
  if order.ndim == 0:
    return jax.lax.dynamic_index_in_dim(images, index - order, keepdims=False)
  return images[jax.lax.dynamic_slice_in_dim(order, index * batch_size, batch_size)]


def to_pixels(images: jax.Array) -> jax.Array:
  """Returns uint8 images as floats in [0, 1], and floats unchanged."""
  return images if jnp.issubdtype(images.dtype, jnp.floating) else images.astype(jnp.float32) / 255


def binarize(key: jax.Array, images: jax.Array) -> jax.Array:
  """Draws every pixel as 1 with probability value / 255, to within 2^-16, else 0.

  Value 0 is never drawn as 1, and 255 always. Two pixels share 32 random bits.

  Args:
    key: A random key.
    images: [B, H, W, C] uint8.
  """
  chex.assert_rank(images, 4)
  # Flat: arithmetic along a last axis of one channel is several times slower on a CPU.
  flat = images.reshape(len(images), -1)  # [B, H * W * C]
  pairs = jax.random.bits(key, (len(flat), -(-flat.shape[1] // 2)))
  halves = jax.lax.bitcast_convert_type(pairs, jnp.uint16).reshape(len(flat), -1)[:, : flat.shape[1]]
  white = halves.astype(jnp.int32) * 255 < flat.astype(jnp.int32) * 2**16
  return white.astype(jnp.float32).reshape(images.shape)
