"""Gaussian filterbank attention (Gregor et al. 2015, arXiv:1502.04623, section 3.2), as the paper has it.

Every function takes ONE example; callers `vmap`. Pixels are counted from 0: the paper's centre g
(counted from 1) is g - 1 here. Shapes: N filters per axis, H W C image.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct


@struct.dataclass
class Window:
  """Where and how an N x N grid of Gaussian filters lies on an image.

  Attributes:
    center_x, center_y: pixels, 0 is the first pixel's middle.
    stride: distance between neighbouring filters, pixels.
    variance: of every filter, pixels^2.
    intensity: the paper's gamma, a factor on what is read.
  """

  center_x: jax.Array
  center_y: jax.Array
  stride: jax.Array
  variance: jax.Array
  intensity: jax.Array


@struct.dataclass
class Filterbanks:
  """The filters of a window: vertical [N, H], times a gain, and horizontal [N, W].

  The gain, on all that passes through the window, is gamma for reading and 1/gamma for writing.
  """

  window: Window
  vertical: jax.Array
  horizontal: jax.Array


def window(parameters: jax.Array, size: int, height: int, width: int) -> Window:
  """The window that five unconstrained numbers stand for.

      gX = (W + 1)/2 (g~X + 1) - 1,  gY = (H + 1)/2 (g~Y + 1) - 1,
      stride = (max(H, W) - 1)/(N - 1) exp(log stride~)

  so that zeros give a window over the whole image. A single filter (N = 1) has no neighbour: its stride
  has no effect and is reported as if N were 2.

  Args:
    parameters: [5] g~X, g~Y, log variance, log stride~, log intensity.
    size: number of filters N per axis.
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
  """Gaussian filters along one image axis.

      mu_i = center + (i - (N - 1)/2) stride,   F[i, a] = exp(-(a - mu_i)^2 / (2 variance)) / Z_i

  Written as a softmax over pixels: the same numbers, and no 0/0 when a filter lies off the image.

  Args:
    center, stride, variance: scalars; pixels, pixels, pixels^2.
    size: number of filters N.
    extent: number of pixels A on the axis.

  Returns:
    [N, A] weights, each row summing to 1, also when the window lies off the image.
  """
  means = center + filter_offsets(size) * stride  # [N]
  distance, span = offsets_from_nearest(means, (extent,) * size)
  return jax.nn.softmax(-0.5 * distance * span / variance, axis=-1)


def filter_offsets(size: int) -> np.ndarray:
  """[N] i - (N - 1)/2, of every filter from its window's centre, in strides."""
  return np.arange(size, dtype=np.float32) - 0.5 * (size - 1)


def offsets_from_nearest(means: jax.Array, extents: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
  """Both [R, A], of R filters and every pixel a: a - n and a + n - 2 mu, where n is the pixel nearest to mu.

  Their product is (a - mu)^2 - (n - mu)^2, as good as (a - mu)^2 for a softmax, where what they differ by cancels. The
  nearest pixel has weight 1, all others less, and far off the image, where both squares are huge, nothing overflows,
  forwards or backwards.

  Args:
    means: [R] mu, pixels.
    extents: R numbers of pixels, of each filter's axis; A is the longest.
  """
  pixels = np.arange(max(extents))[None]
  nearest = jnp.round(jnp.clip(means, 0, np.array(extents) - 1))[:, None]
  return pixels - nearest, pixels + nearest - 2 * means[:, None]


def unnormalized_filters(
  means: jax.Array, variances: jax.Array, extents: tuple[int, ...]
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """[R, A] each, of R filters of any axes: weights up to a factor for each filter, and both of `from_nearest`.

  Args:
    means, variances: [R] pixels, pixels^2.
    extents: as of `from_nearest`; past the end of a shorter axis weights are 0.
  """
  distance, span = offsets_from_nearest(means, extents)
  exponents = -0.5 * distance * span / variances[:, None]
  inside = np.arange(max(extents)) < np.array(extents)[:, None]
  return jnp.exp(exponents if inside.all() else jnp.where(inside, exponents, -jnp.inf)), distance, span


def filterbanks(window: Window, gain: jax.Array, size: int, height: int, width: int) -> Filterbanks:
  """Both axes of a window, what passes through which is multiplied by a scalar, the gain."""
  vertical = filterbank(window.center_y, window.stride, window.variance, size, height)
  return Filterbanks(window, gain * vertical, filterbank(window.center_x, window.stride, window.variance, size, width))


def read(image: jax.Array, filters: Filterbanks) -> jax.Array:
  """[C, N, N] glimpse of an image [H, W, C]: gain F_Y x F_X^T with the gain gamma, one window for all channels."""
  return jnp.einsum("nh,hwc,mw->cnm", filters.vertical, image, filters.horizontal)


def write(patch: jax.Array, filters: Filterbanks) -> jax.Array:
  """[H, W, C] image of a patch [C, N, N]: gain F_Y^T w F_X with the gain 1/gamma; at one gain the adjoint of `read`."""
  return jnp.einsum("nh,cnm,mw->hwc", filters.vertical, patch, filters.horizontal)


class AttentionImpl(NamedTuple):
  """How windows become filters, and how filters read and write.

  Attributes:
    filterbanks: (windows, gains, sizes, height, width) -> `Filterbanks` of every window.
    read: (image, error image, filters) -> [2 C N N] glimpse of both, one after the other.
    write: (patch, filters) -> [H, W, C].
  """

  filterbanks: Callable
  read: Callable
  write: Callable


def each_window(
  filterbanks: Callable,
  windows: Sequence[Window],
  gains: Sequence[jax.Array],
  sizes: Sequence[int],
  height: int,
  width: int,
) -> list[Filterbanks]:
  """Each window by itself: on a CPU each is one long operation of one core."""
  each = zip(windows, gains, sizes, strict=True)
  return [filterbanks(window, gain, size, height, width) for window, gain, size in each]


def read_each(read: Callable, image: jax.Array, error: jax.Array, filters: Filterbanks) -> jax.Array:
  """Image and error image apart, so that the image is not copied beside every error."""
  return jnp.concatenate([read(image, filters).reshape(-1), read(error, filters).reshape(-1)])


REFERENCE = AttentionImpl(partial(each_window, filterbanks), partial(read_each, read), write)
