"""How DRAW looks at an image and writes on its canvas: linear heads on the decoder, with or without attention.

Both kinds have the same functions: `init` makes the weights of the heads; `aim` turns their numbers W(h_dec), named as
the weights are, into lenses; `fixed` and `read` make a glimpse and `write` an addition to the canvas, for a batch.
Shapes: B batch, H W C image, N glimpse, U hidden units.
"""

import dataclasses
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

  def aim(self, numbers: Weights) -> tuple[None, None]:
    del numbers
    return None, None

  def read(self, lens: None, images: jax.Array, error: jax.Array) -> jax.Array:
    """[B, H W C] the rest of it: the error image."""
    del lens
    return error.reshape(len(images), -1)

  def write(self, lens: None, numbers: Weights) -> jax.Array:
    del lens
    return numbers["write"].reshape(-1, *self.image_shape)


@dataclasses.dataclass(frozen=True)
class FilterbankAttention:
  """Reads and writes through an N x N grid of Gaussian filters; two heads choose the two windows.

  `by_products` is for a CPU: more operations, each of them fast there, forwards and backwards.
  """

  image_shape: tuple[int, int, int]
  read_size: int
  write_size: int
  variance_bias: float
  stride_bias: float
  by_products: bool

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

  def fixed(self, images: jax.Array) -> list[jax.Array]:
    """No part of the glimpse stays the same while the window moves."""
    del images
    return []

  def aim(self, numbers: Weights) -> tuple[attention.Lens, attention.Lens]:
    """The lenses that read and write, of every example."""
    height, width, _ = self.image_shape
    sizes = self.read_size, self.write_size

    def both(*numbers):
      windows = [attention.window(five, size, height, width) for five, size in zip(numbers, sizes, strict=True)]
      gains = windows[0].intensity, 1 / windows[1].intensity
      if self.by_products:  # each by itself, on a core of its own
        each = zip(windows, gains, sizes, strict=True)
        return tuple(attention.lenses([where], [gain], [size], height, width)[0] for where, gain, size in each)
      return tuple(attention.lenses(windows, gains, sizes, height, width))

    return jax.vmap(both)(numbers["read_window"], numbers["write_window"])

  def read(self, lens: attention.Lens, images: jax.Array, error: jax.Array) -> jax.Array:
    """[B, 2 C N N] the image, then the error image, through one window."""
    # Together they take half as many launches; apart the image is not copied beside every error.
    parts = [images, error] if self.by_products else [jnp.concatenate([images, error], axis=-1)]
    read = attention.read_by_products if self.by_products else attention.read
    return jnp.concatenate([jax.vmap(read)(part, lens).reshape(len(images), -1) for part in parts], axis=-1)

  def write(self, lens: attention.Lens, numbers: Weights) -> jax.Array:
    patch = numbers["write"].reshape(-1, self.image_shape[-1], self.write_size, self.write_size)
    write = attention.write_by_products if self.by_products else attention.write
    return jax.vmap(write)(patch, lens)
