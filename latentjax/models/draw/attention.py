"""Gaussian filterbank attention as written in the paper (Gregor et al. 2015, arXiv:1502.04623, section 3.2).

Every function takes one example; callers `vmap`. Pixels are counted from 0: the paper's center g (counted from 1) is
g - 1 here. Shapes: N filters per axis, H W C image, A pixels of an axis, R filters of several axes.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct


@struct.dataclass
class Window:
  """Position and shape of an N x N grid of Gaussian filters on an image."""

  center_x: jax.Array  # in pixels; 0 is the middle of the first pixel
  center_y: jax.Array
  stride: jax.Array  # distance between neighboring filters in pixels
  variance: jax.Array  # of every filter in pixels^2
  intensity: jax.Array  # gamma in the paper, a factor on glimpses


@struct.dataclass
class Filterbanks:
  """Filters of a window: vertical [N, H], multiplied by gamma for reading or 1/gamma for writing; horizontal [N, W]."""

  window: Window
  vertical: jax.Array
  horizontal: jax.Array


def window(parameters: jax.Array, size: int, height: int, width: int) -> Window:
  """Maps five unconstrained parameters [5], g~X, g~Y, log variance, log stride~ and log intensity, to a window.

      gX = (W + 1)/2 (g~X + 1) - 1,  gY = (H + 1)/2 (g~Y + 1) - 1,
      stride = (max(H, W) - 1)/(N - 1) exp(log stride~)

  so that zeros give a window over the whole image. The stride of a single filter (N = 1) has no effect and is reported
  as if N were 2.
  """
  g_x, g_y, log_variance, log_stride, log_intensity = jnp.unstack(parameters)
  return Window(
    center_x=0.5 * (width + 1) * (g_x + 1) - 1,
    center_y=0.5 * (height + 1) * (g_y + 1) - 1,
    stride=(max(height, width) - 1) / max(size - 1, 1) * jnp.exp(log_stride),
    variance=jnp.exp(log_variance),
    intensity=jnp.exp(log_intensity),
  )


def filterbank(center: jax.Array, stride: jax.Array, variance: jax.Array, size: int, extent: int) -> jax.Array:
  """Returns Gaussian filters [N, A] along one image axis; each row sums to 1, even if the window lies off the image.

      mu_i = center + (i - (N - 1)/2) stride,   F[i, a] = exp(-(a - mu_i)^2 / (2 variance)) / Z_i

  Computed as a softmax over pixels, which is equal and avoids 0/0 when a filter lies off the image.
  """
  means = center + filter_offsets(size) * stride  # [N]
  distance, span = offsets_from_nearest(means, (extent,) * size)
  return jax.nn.softmax(-0.5 * distance * span / variance, axis=-1)


def filter_offsets(size: int) -> np.ndarray:
  """Returns the offsets i - (N - 1)/2 of filters from the center of their window in strides, [N]."""
  return np.arange(size, dtype=np.float32) - 0.5 * (size - 1)


def offsets_from_nearest(means: jax.Array, extents: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
  """Returns a - n and a + n - 2 mu, [R, A] each, for means mu [R] and all pixels a, where n is the pixel nearest to mu.

  Their product (a - mu)^2 - (n - mu)^2 replaces (a - mu)^2 in a softmax, where the difference cancels. The nearest
  pixel then has weight 1 and all others less, and far off the image, where both squares are huge, neither values nor
  gradients overflow. `extents` are the lengths of the axes of the R filters, and A is the longest.
  """
  pixels = np.arange(max(extents))[None]
  nearest = jnp.round(jnp.clip(means, 0, np.array(extents) - 1))[:, None]
  return pixels - nearest, pixels + nearest - 2 * means[:, None]


def unnormalized_filters(
  means: jax.Array, variances: jax.Array, extents: tuple[int, ...]
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Returns weights up to a factor per filter, 0 beyond its axis, and both `offsets_from_nearest`, [R, A] each."""
  distance, span = offsets_from_nearest(means, extents)
  exponents = -0.5 * distance * span / variances[:, None]
  inside = np.arange(max(extents)) < np.array(extents)[:, None]
  return jnp.exp(exponents if inside.all() else jnp.where(inside, exponents, -jnp.inf)), distance, span


def filterbanks(window: Window, gain: jax.Array, size: int, height: int, width: int) -> Filterbanks:
  """Returns the filters of a window, the vertical ones multiplied by the scalar `gain`."""
  vertical = filterbank(window.center_y, window.stride, window.variance, size, height)
  return Filterbanks(window, gain * vertical, filterbank(window.center_x, window.stride, window.variance, size, width))


def read(image: jax.Array, filters: Filterbanks) -> jax.Array:
  """Reads a glimpse [C, N, N] from an image [H, W, C]: gain F_Y x F_X^T with gain gamma, channel by channel."""
  return jnp.einsum("nh,hwc,mw->cnm", filters.vertical, image, filters.horizontal)


def write(patch: jax.Array, filters: Filterbanks) -> jax.Array:
  """Writes a patch [C, N, N] to an image [H, W, C]: gain F_Y^T w F_X with gain 1/gamma; the adjoint of `read`."""
  return jnp.einsum("nh,cnm,mw->hwc", filters.vertical, patch, filters.horizontal)


class AttentionImpl(NamedTuple):
  """An implementation of filterbank attention."""

  filterbanks: Callable  # (windows, gains, sizes, height, width) -> `Filterbanks` of every window
  read: Callable  # (image, error image, filters) -> [2 C N N], the glimpses of both, concatenated
  write: Callable  # (patch, filters) -> [H, W, C]


def each_window(filterbanks: Callable, windows, gains, sizes, height: int, width: int) -> list[Filterbanks]:
  """Computes the filterbanks of each window separately, which suits CPUs."""
  return [filterbanks(*window, height, width) for window in zip(windows, gains, sizes, strict=True)]


def read_each(read: Callable, image: jax.Array, error: jax.Array, filters: Filterbanks) -> jax.Array:
  """Reads image and error image separately, which avoids concatenating them in every step."""
  return jnp.concatenate([read(image, filters).reshape(-1), read(error, filters).reshape(-1)])


REFERENCE = AttentionImpl(partial(each_window, filterbanks), partial(read_each, read), write)
