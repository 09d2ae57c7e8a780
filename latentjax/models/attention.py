"""Gaussian filterbank attention (Gregor et al. 2015, arXiv:1502.04623, section 3.2).

Every function takes ONE example; callers `vmap`. Pixels are counted from 0: the paper's centre g
(counted from 1) is g - 1 here. Shapes: N filters per axis, H W C image.
"""

from collections.abc import Sequence

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
  g_x, g_y, log_variance, log_stride, log_intensity = parameters
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
  means = center + (jnp.arange(size) - 0.5 * (size - 1)) * stride  # [N]
  return rows(means, jnp.broadcast_to(variance, means.shape), np.full(size, extent))


def rows(means: jax.Array, variances: jax.Array, extents: np.ndarray) -> jax.Array:
  """[R, A] filters of any axes, one a row: `filterbank` for all of them at once.

  Args:
    means, variances: [R] pixels, pixels^2.
    extents: [R] pixels of each row's axis; A is the longest, and shorter axes are filled up with zeros.
  """
  pixels = np.arange(extents.max())  # [A]
  # (a - mu)^2 less that of the pixel nearest to mu, which a softmax does not see: far off the image, where both
  # are huge, nothing cancels and nothing overflows, forwards or backwards.
  nearest = jax.lax.stop_gradient(jnp.round(jnp.clip(means, 0, extents - 1)))
  excess = (pixels[None] - nearest[:, None]) * (pixels[None] + nearest[:, None] - 2 * means[:, None])  # [R, A]
  logits = -0.5 * excess / variances[:, None]
  inside = pixels[None] < extents[:, None]
  return jax.nn.softmax(logits if inside.all() else jnp.where(inside, logits, -jnp.inf), axis=-1)


@struct.dataclass
class Lens:
  """A window with its filterbanks: vertical [N, H] and horizontal [N, W]."""

  where: Window
  vertical: jax.Array
  horizontal: jax.Array


def lenses(windows: Sequence[Window], sizes: Sequence[int], height: int, width: int) -> list[Lens]:
  """The filterbanks of several windows, all rows of all axes in one call: on a GPU four calls cost four times one."""
  means, variances, extents = [], [], []
  for where, size in zip(windows, sizes, strict=True):
    offsets = (jnp.arange(size) - 0.5 * (size - 1)) * where.stride  # [N]
    means += [where.center_y + offsets, where.center_x + offsets]
    variances += 2 * [jnp.broadcast_to(where.variance, offsets.shape)]
    extents += size * [height] + size * [width]
  filters = rows(jnp.concatenate(means), jnp.concatenate(variances), np.array(extents))
  parts = iter(jnp.split(filters, np.cumsum(np.repeat(sizes, 2))[:-1]))
  return [Lens(where, next(parts)[:, :height], next(parts)[:, :width]) for where in windows]


def read(image: jax.Array, lens: Lens) -> jax.Array:
  """[N, N, C] glimpse of an image [H, W, C]: gamma F_Y x F_X^T, one window for all channels."""
  return lens.where.intensity * jnp.einsum("nh,hwc,mw->nmc", lens.vertical, image, lens.horizontal)


def write(patch: jax.Array, lens: Lens) -> jax.Array:
  """[H, W, C] image of a patch [N, N, C]: 1/gamma F_Y^T w F_X, the adjoint of `read` up to gamma^2."""
  scaled = patch / lens.where.intensity  # here and not on the image, which is larger
  return jnp.einsum("nh,nmc,mw->hwc", lens.vertical, scaled, lens.horizontal)
