"""How DRAW looks at an image and writes on its canvas: linear heads on the decoder, with or without attention.

Both kinds have the same functions. `init` makes the heads; their outputs W(h_dec), by the heads' names, choose the
`filterbanks`; `read` makes a glimpse and `write` an addition to the canvas, for a batch. Only without attention a part
of the glimpse is the same in every step.

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

Outputs = dict[str, jax.Array]  # W(h_dec) [B, outputs] of every head by name


@dataclasses.dataclass(frozen=True)
class NoAttention:
  """read = [x, x_hat], write = W(h_dec): the whole image at every step."""

  image_shape: tuple[int, int, int]

  @property
  def constant_size(self) -> int:
    """Numbers of a glimpse that are the same at every step, those of `constant_glimpse`."""
    return math.prod(self.image_shape)

  @property
  def varying_size(self) -> int:
    """The other numbers of a glimpse, those of `varying_glimpse`."""
    return math.prod(self.image_shape)

  def with_impl(self, layout: AttentionImpl) -> "NoAttention":
    del layout
    return self

  def init(self, key: jax.Array, kernel_init: Callable, units: int) -> dict[str, Layer]:
    """The head `write` [U, H W C]."""
    return {"write": init_linear(key, kernel_init, units, math.prod(self.image_shape))}

  def filterbanks(self, outputs: Outputs) -> tuple[None, None]:
    del outputs
    return None, None

  def read(self, filters: None, images: jax.Array, error: jax.Array) -> jax.Array:
    """[B, 2 H W C] the image, then the error image."""
    return jnp.concatenate([self.constant_glimpse(images), self.error_glimpse(filters, images, error)], axis=-1)

  def constant_glimpse(self, images: jax.Array) -> jax.Array:
    """[B, H W C] the image."""
    return images.reshape(len(images), -1)

  def error_glimpse(self, filters: None, images: jax.Array, error: jax.Array) -> jax.Array:
    """[B, H W C] the error image."""
    del filters, images
    return error.reshape(len(error), -1)

  def write(self, filters: None, outputs: Outputs) -> jax.Array:
    """[B, H, W, C]."""
    del filters
    return outputs["write"].reshape(-1, *self.image_shape)


@dataclasses.dataclass(frozen=True)
class FilterbankAttention:
  """Reads and writes through an N x N grid of Gaussian filters; two heads choose the two windows."""

  image_shape: tuple[int, int, int]
  read_size: int
  write_size: int
  init_log_variance: float
  init_log_stride: float
  init_write_gain: float
  layout: AttentionImpl = REFERENCE

  @property
  def constant_size(self) -> int:
    """0: no part of a glimpse stays the same while the window moves."""
    return 0

  @property
  def varying_size(self) -> int:
    return 2 * self.read_size**2 * self.image_shape[-1]

  def with_impl(self, layout: AttentionImpl) -> "FilterbankAttention":
    return dataclasses.replace(self, layout=layout)

  def init(self, key: jax.Array, kernel_init: Callable, units: int) -> dict[str, Layer]:
    """The heads `read_window` and `write_window` [U, 5], and `write` [U, C N N]."""
    read_key, write_key, patch_key = jax.random.split(key, 3)
    bias = jnp.array([0.0, 0.0, self.init_log_variance, self.init_log_stride, 0.0])
    write_bias = bias.at[4].set(-math.log(self.init_write_gain))
    return {
      "read_window": init_linear(read_key, kernel_init, units, 5) | {"bias": bias},
      "write_window": init_linear(write_key, kernel_init, units, 5) | {"bias": write_bias},
      "write": init_linear(patch_key, kernel_init, units, self.write_size**2 * self.image_shape[-1]),
    }

  def filterbanks(self, outputs: Outputs) -> tuple[Filterbanks, Filterbanks]:
    """For reading and for writing, of every example."""
    height, width, _ = self.image_shape
    sizes = self.read_size, self.write_size

    def both(*parameters: jax.Array) -> tuple[Filterbanks, ...]:
      windows = [attention.window(five, size, height, width) for five, size in zip(parameters, sizes, strict=True)]
      gains = windows[0].intensity, 1 / windows[1].intensity
      return tuple(self.layout.filterbanks(windows, gains, sizes, height, width))

    return jax.vmap(both)(outputs["read_window"], outputs["write_window"])

  def read(self, filters: Filterbanks, images: jax.Array, error: jax.Array) -> jax.Array:
    """[B, 2 C N N] the image, then the error image, through one window."""
    return jax.vmap(self.layout.read)(images, error, filters)

  error_glimpse = read

  def write(self, filters: Filterbanks, outputs: Outputs) -> jax.Array:
    """[B, H, W, C] of patches [B, C, N, N] through the other window."""
    patch = outputs["write"].reshape(-1, self.image_shape[-1], self.write_size, self.write_size)
    return jax.vmap(self.layout.write)(patch, filters)


Heads = NoAttention | FilterbankAttention

Weights = dict[str, Any]  # of the recurrence, as `DRAW.init_weights` makes them
