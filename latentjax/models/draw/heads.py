"""Reading and writing of DRAW: linear heads on the decoder, with or without attention.

Both classes have the same methods. `init` creates the heads; their outputs W(h_dec) determine the `filterbanks`; `read`
returns a glimpse and `write` an addition to the canvas, for a batch. `glimpse_sizes` are those of the part of a glimpse
that is the same at every step, which `fused.py` multiplies once, and of the rest, the `error_glimpse`.

Shapes: B batch, H W C image, N glimpse, U hidden units.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from latentjax.models.draw import attention
from latentjax.models.draw.attention import REFERENCE, AttentionImpl, Filterbanks
from latentjax.models.layers import Layer, init_linear

Outputs = dict[str, jax.Array]  # W(h_dec) [B, O] of every head by name
Weights = dict[str, Any]  # of the recurrence, as created by `DRAW.init_weights`


@dataclasses.dataclass(frozen=True)
class NoAttention:
  """Reads and writes the whole image at every step: read = [x, x_hat], write = W(h_dec)."""

  image_shape: tuple[int, int, int]

  @property
  def glimpse_sizes(self) -> tuple[int, int]:
    return math.prod(self.image_shape), math.prod(self.image_shape)

  def init(self, key: jax.Array, kernel_init: Callable, units: int) -> dict[str, Layer]:
    """Creates the head `write` [U, H W C]."""
    return {"write": init_linear(key, kernel_init, units, math.prod(self.image_shape))}

  def filterbanks(self, outputs: Outputs) -> tuple[None, None]:
    del outputs
    return None, None

  def read(self, filters: None, images: jax.Array, error: jax.Array) -> jax.Array:
    """Returns image and error image, [B, 2 H W C]."""
    return jnp.concatenate([self.constant_glimpse(images), self.error_glimpse(filters, images, error)], axis=-1)

  def constant_glimpse(self, images: jax.Array) -> jax.Array:
    return images.reshape(len(images), -1)

  def error_glimpse(self, filters: None, images: jax.Array, error: jax.Array) -> jax.Array:
    del filters, images
    return error.reshape(len(error), -1)

  def write(self, filters: None, outputs: Outputs) -> jax.Array:
    """Returns the addition to the canvas, [B, H, W, C]."""
    del filters
    return outputs["write"].reshape(-1, *self.image_shape)


@dataclasses.dataclass(frozen=True)
class FilterbankAttention:
  """Reads and writes through N x N grids of Gaussian filters; two heads set the read and the write window."""

  image_shape: tuple[int, int, int]
  read_size: int
  write_size: int
  init_log_variance: float
  init_log_stride: float
  init_write_gain: float
  impl: AttentionImpl = REFERENCE

  @property
  def glimpse_sizes(self) -> tuple[int, int]:
    return 0, 2 * self.read_size**2 * self.image_shape[-1]

  def init(self, key: jax.Array, kernel_init: Callable, units: int) -> dict[str, Layer]:
    """Creates the heads `read_window` and `write_window` [U, 5], and `write` [U, C N N]."""
    read_key, write_key, patch_key = jax.random.split(key, 3)
    bias = jnp.array([0.0, 0.0, self.init_log_variance, self.init_log_stride, 0.0])
    write_bias = bias.at[4].set(-math.log(self.init_write_gain))
    return {
      "read_window": init_linear(read_key, kernel_init, units, 5) | {"bias": bias},
      "write_window": init_linear(write_key, kernel_init, units, 5) | {"bias": write_bias},
      "write": init_linear(patch_key, kernel_init, units, self.write_size**2 * self.image_shape[-1]),
    }

  def filterbanks(self, outputs: Outputs) -> tuple[Filterbanks, Filterbanks]:
    """Returns the filters for reading and for writing, with a leading axis B."""
    height, width, _ = self.image_shape
    sizes = self.read_size, self.write_size

    def both(*parameters: jax.Array) -> tuple[Filterbanks, ...]:
      windows = [attention.window(p, size, height, width) for p, size in zip(parameters, sizes, strict=True)]
      gains = windows[0].intensity, 1 / windows[1].intensity
      return tuple(self.impl.filterbanks(windows, gains, sizes, height, width))

    return jax.vmap(both)(outputs["read_window"], outputs["write_window"])

  def read(self, filters: Filterbanks, images: jax.Array, error: jax.Array) -> jax.Array:
    """Returns the glimpses of image and error image through the read window, [B, 2 C N N]."""
    return jax.vmap(self.impl.read)(images, error, filters)

  error_glimpse = read

  def write(self, filters: Filterbanks, outputs: Outputs) -> jax.Array:
    """Returns the addition to the canvas, [B, H, W, C]: patches [B, C, N, N] through the write window."""
    patch = outputs["write"].reshape(-1, self.image_shape[-1], self.write_size, self.write_size)
    return jax.vmap(self.impl.write)(patch, filters)


Heads = NoAttention | FilterbankAttention
