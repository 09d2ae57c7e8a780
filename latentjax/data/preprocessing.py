"""Batches on the device: shuffle, gather and binarise, all inside jit.

Shapes: M images in the set, S steps of a call, B batch, H W C image.
"""

import jax
import jax.numpy as jnp


def epoch_order(key: jax.Array, epoch: jax.Array, num_images: int) -> jax.Array:
  """[M] the order in which an epoch sees the images."""
  return jax.random.permutation(jax.random.fold_in(key, epoch), num_images)


def gather(images: jax.Array, order: jax.Array, index: jax.Array, batch_size: int) -> jax.Array:
  """[B, H, W, C] uint8: batch number `index` of an epoch.

  Args:
    images, order: [M, H, W, C] and [M], their order; or batches [S, B, H, W, C] and the number of the first of them.
  """
  if order.ndim == 0:
    return jax.lax.dynamic_index_in_dim(images, index - order, keepdims=False)
  return images[jax.lax.dynamic_slice_in_dim(order, index * batch_size, batch_size)]


def to_pixels(images: jax.Array) -> jax.Array:
  """Floats in [0, 1] of uint8 images; floats as they are."""
  return images if jnp.issubdtype(images.dtype, jnp.floating) else images.astype(jnp.float32) / 255


def binarize(key: jax.Array, images: jax.Array) -> jax.Array:
  """Floats 0 and 1: each pixel of the uint8 images is white with probability value / 255, to within 2^-16.

  Never where the value is 0 and always where it is 255. Two pixels share 32 random bits.
  """
  # Flat: arithmetic along a last axis of one channel is several times slower on a CPU.
  flat = images.reshape(len(images), -1)
  pairs = jax.random.bits(key, (len(flat), -(-flat.shape[1] // 2)))
  halves = jax.lax.bitcast_convert_type(pairs, jnp.uint16).reshape(len(flat), -1)[:, : flat.shape[1]]
  white = halves.astype(jnp.int32) * 255 < flat.astype(jnp.int32) * 2**16
  return white.astype(jnp.float32).reshape(images.shape)
