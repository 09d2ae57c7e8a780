"""Gaussian filterbank attention (Gregor et al. 2015, arXiv:1502.04623, section 3.2).

Every function takes ONE example; callers `vmap`. Pixels are counted from 0: the paper's centre g
(counted from 1) is g - 1 here. Shapes: N filters per axis, H W C image.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from latentjax.models.product import combination, product, row_sums, transposed


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
  return rows(means, jnp.broadcast_to(variance, means.shape), jnp.ones(size), (extent,) * size)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def rows(means: jax.Array, variances: jax.Array, sums: jax.Array, extents: tuple[int, ...]) -> jax.Array:
  """[R, A] filters of any axes, one a row: `filterbank` for all of them at once.

  The gradient is written out in `rows_gradient`, which needs of a step only the filters themselves.

  Args:
    means, variances: [R] pixels, pixels^2.
    sums: [R] what each row adds up to.
    extents: R numbers of pixels, of each row's axis; A is the longest, and shorter axes are filled up with zeros.
  """
  distance, span = from_nearest(means, extents)
  exponents = -0.5 * distance * span / variances[:, None]
  inside = np.arange(max(extents)) < np.array(extents)[:, None]
  weights = jnp.exp(exponents if inside.all() else jnp.where(inside, exponents, -jnp.inf))
  return weights * (sums / row_sums(weights))[:, None]


def from_nearest(means: jax.Array, extents: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
  """Both [R, A], of every pixel a: a - n and a + n - 2 mu, where n is the pixel nearest to mu.

  Their product is (a - mu)^2 - (n - mu)^2, as good as (a - mu)^2 for a softmax, where what they differ by cancels. The
  nearest pixel has weight 1, all others less, and far off the image, where both squares are huge, nothing overflows,
  forwards or backwards.
  """
  pixels = np.arange(max(extents))[None]
  nearest = jnp.round(jnp.clip(means, 0, np.array(extents) - 1))[:, None]
  return pixels - nearest, pixels + nearest - 2 * means[:, None]


def keep_rows(means, variances, sums, extents):
  filters = rows(means, variances, sums, extents)
  return filters, (filters, means, variances, sums)


def rows_gradient(extents, kept, gradient):
  """Of s_i softmax_a(e_ia), e_ia = -(a - n_i)(a + n_i - 2 mu_i) / (2 v_i): to mu, v and s."""
  filters, means, variances, sums = kept
  distance, span = from_nearest(means, extents)
  to_sums = row_sums(filters / sums[:, None] * gradient)
  moved = filters * (gradient - to_sums[:, None]) * distance  # the gradient to e, times a - n
  return row_sums(moved) / variances, 0.5 * row_sums(moved * span) / variances**2, to_sums


rows.defvjp(keep_rows, rows_gradient)


@struct.dataclass
class Lens:
  """A window with its filterbanks: vertical [N, H], times a gain, and horizontal [N, W]."""

  where: Window
  vertical: jax.Array
  horizontal: jax.Array


def lenses(
  windows: Sequence[Window], gains: Sequence[jax.Array], sizes: Sequence[int], height: int, width: int
) -> list[Lens]:
  """The filterbanks of several windows, all rows of all axes in one call: on a GPU four calls cost four times one.

  Args:
    gains: a factor of each window on all that passes through it: gamma for reading, 1/gamma for writing.
  """
  each = np.repeat(sizes, 2)  # rows of each axis, vertical before horizontal
  of_axis = np.repeat(np.eye(len(each)), each, axis=1)  # [axes, R] 1 where a row belongs to an axis, else 0
  of_window = of_axis[::2] + of_axis[1::2]
  offsets = np.concatenate([np.arange(size) - 0.5 * (size - 1) for size in each])  # [R]
  centers = [center for where in windows for center in (where.center_y, where.center_x)]
  strides = [where.stride for where in windows]
  means = combination([*centers, *strides], np.concatenate([of_axis, of_window * offsets]))
  variances = combination([where.variance for where in windows], of_window)
  sums = combination([*gains, 1.0], np.concatenate([of_axis[::2], of_axis[1::2].sum(0, keepdims=True)]))
  extents = tuple(np.repeat([height, width] * len(windows), each).tolist())
  filters = rows(means, variances, sums, extents)
  ends = np.cumsum(each)
  parts = iter([filters[end - size : end] for end, size in zip(ends, each, strict=True)])
  return [Lens(where, next(parts)[:, :height], next(parts)[:, :width]) for where in windows]


def read(image: jax.Array, lens: Lens) -> jax.Array:
  """[C, N, N] glimpse of an image [H, W, C]: gamma F_Y x F_X^T, one window for all channels."""
  return jnp.einsum("nh,hwc,mw->cnm", lens.vertical, image, lens.horizontal)


def write(patch: jax.Array, lens: Lens) -> jax.Array:
  """[H, W, C] image of a patch [C, N, N]: 1/gamma F_Y^T w F_X, the adjoint of `read` up to gamma^2."""
  return jnp.einsum("nh,cnm,mw->hwc", lens.vertical, patch, lens.horizontal)


def read_by_products(image: jax.Array, lens: Lens) -> jax.Array:
  """`read` for a CPU."""
  height, width, channels = image.shape
  down = product(lens.vertical, image.transpose(0, 2, 1).reshape(height, -1))  # [N, C W]
  glimpse = product(down.reshape(-1, width), lens.horizontal, flip=True)  # [N C, N]
  return glimpse.reshape(-1, channels, glimpse.shape[-1]).transpose(1, 0, 2)


def write_by_products(patch: jax.Array, lens: Lens) -> jax.Array:
  """`write` for a CPU."""
  channels, size, _ = patch.shape
  across = product(patch.transpose(1, 0, 2).reshape(-1, size), lens.horizontal)  # [N C, W]
  image = product(transposed(lens.vertical), across.reshape(size, -1))  # [H, C W]
  return image.reshape(len(image), channels, -1).transpose(0, 2, 1)
