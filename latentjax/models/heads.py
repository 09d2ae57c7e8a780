"""How DRAW looks at an image and writes on its canvas: linear heads on the decoder, with or without attention.

Both kinds have the same functions: `init` makes the weights of their heads; `fixed` and `read` make a glimpse, `write`
an addition to the canvas, for a batch. A head's `numbers` are W(h_dec), named as its weights are.
Shapes: B batch, H W C image, N glimpse, U hidden units.
"""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from latentjax.models import attention

Weights = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class NoAttention:
  """read = [x, x_hat], write = W(h_dec): the whole image at every step."""

  image_shape: tuple[int, int, int]

  @property
  def num_read(self) -> int:
    height, width, channels = self.image_shape
    return 2 * height * width * channels

  def init(self, key: jax.Array, init_dense, units: int) -> Weights:
    height, width, channels = self.image_shape
    return {"write": init_dense(key, units, height * width * channels)}

  def fixed(self, images: jax.Array) -> list[jax.Array]:
    """The part of the glimpse that is the same at every step: the image."""
    return [images.reshape(len(images), -1)]

  def read(self, numbers: Weights, images: jax.Array, error: jax.Array) -> tuple[jax.Array, None]:
    """[B, H W C] the rest of it: the error image."""
    del numbers
    return error.reshape(len(images), -1), None

  def write(self, numbers: Weights) -> tuple[jax.Array, None]:
    return numbers["write"].reshape(-1, *self.image_shape), None


@dataclasses.dataclass(frozen=True)
class FilterbankAttention:
  """Reads and writes through an N x N grid of Gaussian filters; two heads choose the two windows."""

  image_shape: tuple[int, int, int]
  read_size: int
  write_size: int
  variance_bias: float
  stride_bias: float

  @property
  def num_read(self) -> int:
    return 2 * self.read_size**2 * self.image_shape[-1]

  def init(self, key: jax.Array, init_dense, units: int) -> Weights:
    read_key, write_key, patch_key = jax.random.split(key, 3)
    start = jnp.array([0.0, 0.0, self.variance_bias, self.stride_bias, 0.0])
    return {
      "read_window": init_dense(read_key, units, 5) | {"bias": start},
      "write_window": init_dense(write_key, units, 5) | {"bias": start},
      "write": init_dense(patch_key, units, self.write_size**2 * self.image_shape[-1]),
    }

  def window(self, numbers: jax.Array, size: int) -> attention.Window:
    height, width, _ = self.image_shape
    return jax.vmap(partial(attention.window, size=size, height=height, width=width))(numbers)

  def fixed(self, images: jax.Array) -> list[jax.Array]:
    """No part of the glimpse stays the same while the window moves."""
    del images
    return []

  def read(self, numbers: Weights, images: jax.Array, error: jax.Array) -> tuple[jax.Array, attention.Window]:
    where = self.window(numbers["read_window"], self.read_size)
    both = jnp.concatenate([images, error], axis=-1)  # [B, H, W, 2C], one window for both
    glimpse = jax.vmap(partial(attention.read, size=self.read_size))(both, where)  # [B, N, N, 2C]
    return glimpse.reshape(len(images), -1), where

  def write(self, numbers: Weights) -> tuple[jax.Array, attention.Window]:
    height, width, channels = self.image_shape
    where = self.window(numbers["write_window"], self.write_size)
    patch = numbers["write"].reshape(-1, self.write_size, self.write_size, channels)
    return jax.vmap(partial(attention.write, height=height, width=width))(patch, where), where


def dense(weights: Weights, x: jax.Array) -> jax.Array:
  """[B, outputs] x W + b of x [B, inputs]."""
  return x @ weights["kernel"] + weights["bias"][None]
