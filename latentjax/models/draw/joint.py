"""Attention in few launches, for a GPU: what a window sees is kept with its slopes, so that no filter needs a gradient.

A glimpse G[n, m] = gain sum_hw F_Y[n, h] x[h, w] F_X[m, w] follows from five numbers. With d = a - n the distance of a
pixel from the one nearest to a filter's mean mu, and s = a + n - 2 mu, a filter is the softmax of -d s / (2 v), thus

    d log F / d mu = (d - E d) / v,   d log F / d v = (d s - E d s) / (2 v^2),   E over the filter itself.

So the sums of an image with F F, F F d_Y, F F d_X and F F (d s_Y + d s_X) are the glimpse and its slopes, in one pass.
Writing is the adjoint of reading: its slopes are those of a glimpse of the canvas's gradient.

The barriers say where a launch ends, or XLA makes several small ones of each array. Every function takes ONE example;
callers `vmap`. Shapes: N filters per axis, R filters of several axes, A pixels of an axis, C H W image.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from latentjax.models import products
from latentjax.models.draw.attention import Filterbanks, Window, filter_offsets, unnormalised

LARGEST_SUM = 5  # N up to which one launch of sums over both axes takes the place of products
Slopes = tuple[jax.Array, jax.Array, jax.Array, jax.Array]  # of d_Y, d_X, d s_Y, d s_X


@struct.dataclass
class SlopedFilterbanks(Filterbanks):
  """Filters as constants: the gradient goes to `window` and `gain`.

  Attributes:
    gain: on all that passes through.
    slopes: [N, A] each, d and d s of every pixel.
    means: [N] each, E of these.
  """

  gain: jax.Array
  slopes: Slopes
  means: Slopes


def row_numbers(
  windows: Sequence[Window], gains: Sequence[jax.Array], sizes: Sequence[int], combination: Callable
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """[R] each, mean, variance and sum of every filter: of all windows, vertical before horizontal.

      mean = center of its axis + offset stride,   variance that of its window,   sum = gain if vertical, else 1

  as sums of scalars times constant rows, which give every filter the numbers of its axis and window.
  """
  each = np.repeat(sizes, 2)  # filters of each axis
  of_axis = np.repeat(np.eye(len(each)), each, axis=1)  # [axes, R] 1 where a filter belongs to an axis, else 0
  of_window = of_axis[::2] + of_axis[1::2]
  offsets = np.concatenate([filter_offsets(size) for size in each])  # [R]
  centers = [center for window in windows for center in (window.center_y, window.center_x)]
  strides = [window.stride for window in windows]
  means = combination([*centers, *strides], np.concatenate([of_axis, of_window * offsets]))
  variances = combination([window.variance for window in windows], of_window)
  sums = combination([*gains, 1.0], np.concatenate([of_axis[::2], of_axis[1::2].sum(0, keepdims=True)]))
  return means, variances, sums


def extents(sizes: Sequence[int], axes: Sequence[int]) -> tuple[int, ...]:
  """R numbers of pixels: of each filter's axis.

  Args:
    sizes: filters per axis of each window.
    axes: pixels of every axis of every window.
  """
  return tuple(np.repeat(axes, np.repeat(sizes, 2)).tolist())


def by_axis(rows: jax.Array, sizes: Sequence[int], axes: Sequence[int]) -> list[jax.Array]:
  """What [R] or [R, A] has of every axis, without what fills shorter axes up; arguments as of `extents`."""
  ends = np.cumsum(each := np.repeat(sizes, 2))
  parts = [rows[end - size : end] for end, size in zip(ends, each, strict=True)]
  return parts if rows.ndim == 1 else [part[:, :extent] for part, extent in zip(parts, axes, strict=True)]


def filterbanks(
  windows: Sequence[Window], gains: Sequence[jax.Array], sizes: Sequence[int], height: int, width: int
) -> list[SlopedFilterbanks]:
  """All filters of both axes of all windows in one call: on a GPU four calls cost four times one."""
  axes = (height, width) * len(windows)
  barrier = jax.lax.optimization_barrier
  means, variances, sums = jax.lax.stop_gradient(row_numbers(windows, gains, sizes, products.combination))
  weights, distance, span = unnormalised(means, variances, extents(sizes, axes))
  weights, distance, square = barrier((weights, distance, distance * span))
  total = weights.sum(-1)
  scale, *expected = barrier((sums / total, *((weights * x).sum(-1) / total for x in (distance, square))))
  filters = weights * scale[:, None]

  def of_both(arrays: Sequence[jax.Array]) -> list[tuple[jax.Array, ...]]:
    """Of every window, the parts of each array for both axes."""
    split = [by_axis(x, sizes, axes) for x in arrays]
    return [tuple(part for x in split for part in x[i : i + 2]) for i in range(0, len(axes), 2)]

  every = zip(windows, of_both([filters]), gains, of_both([distance, square]), of_both(expected), strict=True)
  return [SlopedFilterbanks(window, *both, gain, slopes, means) for window, both, gain, slopes, means in every]


def sums_through(pictures: jax.Array, filters: SlopedFilterbanks) -> Slopes:
  """[C, N, N] each, of pictures [C, H, W] with F F, F F d_Y, F F d_X and F F (d s_Y + d s_X)."""
  vertical, horizontal = filters.vertical, filters.horizontal
  d_y, d_x, square_y, square_x = filters.slopes
  seen = down(vertical) * across(horizontal) * pictures[:, None, None]  # [C, N, N, H, W]
  factors = down(d_y), across(d_x), down(square_y) + across(square_x)
  return seen.sum((-2, -1)), *((seen * factor).sum((-2, -1)) for factor in factors)


def down(x: jax.Array) -> jax.Array:
  """[1, N, 1, A, 1] of vertical filters [N, A]."""
  return x[None, :, None, :, None]


def across(x: jax.Array) -> jax.Array:
  """[1, 1, N, 1, A] of horizontal filters [N, A]."""
  return x[None, None, :, None, :]


def spread(patch: jax.Array, filters: SlopedFilterbanks) -> jax.Array:
  """[C, H, W] of a patch [C, N, N], the adjoint of the first of `sums_through`."""
  return (patch[..., None, None] * down(filters.vertical) * across(filters.horizontal)).sum((1, 2))


def to_window(patch: jax.Array, sums: Slopes, filters: SlopedFilterbanks) -> SlopedFilterbanks:
  """The gradient of sum patch * glimpse, by `sums_through`, to window and gain."""
  seen, by_y, by_x, by_square = sums
  mean_y, mean_x, square_y, square_x = filters.means
  offsets = filter_offsets(len(mean_y))
  to_means_y = patch * (by_y - mean_y[None, :, None] * seen)
  to_means_x = patch * (by_x - mean_x[None, None] * seen)
  to_squares = patch * (by_square - (square_y[None, :, None] + square_x[None, None]) * seen)
  to_strides = offsets[None, :, None] * to_means_y + offsets[None, None] * to_means_x
  precision = 1 / filters.window.variance
  return jax.tree.map(jnp.zeros_like, filters).replace(
    window=Window(
      center_x=to_means_x.sum() * precision,
      center_y=to_means_y.sum() * precision,
      stride=to_strides.sum() * precision,
      variance=0.5 * to_squares.sum() * precision * precision,
      intensity=jnp.zeros_like(precision),
    ),
    gain=(patch * seen).sum() / filters.gain,
  )


@jax.custom_vjp
def glimpses(image: jax.Array, error: jax.Array, filters: SlopedFilterbanks) -> jax.Array:
  """[2 C, N, N] of both [C, H, W]."""
  return glimpses_forward(image, error, filters)[0]


def glimpses_forward(image, error, filters):
  sums = sums_through(jnp.concatenate([image, error]), filters)
  return sums[0], (sums, filters)


def glimpses_backward(residuals, gradient):
  sums, filters = residuals
  of_image, of_error = jnp.split(gradient, 2)
  return spread(of_image, filters), spread(of_error, filters), to_window(gradient, sums, filters)


glimpses.defvjp(glimpses_forward, glimpses_backward)


@jax.custom_vjp
def addition(patch: jax.Array, filters: SlopedFilterbanks) -> jax.Array:
  """[C, H, W] of a patch [C, N, N]."""
  return spread(patch, filters)


def addition_forward(patch, filters):
  return spread(patch, filters), (patch, filters)


def addition_backward(residuals, gradient):
  patch, filters = residuals
  sums = sums_through(gradient, filters)
  return sums[0], to_window(patch, sums, filters)


addition.defvjp(addition_forward, addition_backward)


def read(image: jax.Array, error: jax.Array, filters: SlopedFilterbanks) -> jax.Array:
  """[2 C N N] glimpse of both images [H, W, C], one after the other."""
  return glimpses(image.transpose(2, 0, 1), error.transpose(2, 0, 1), filters).reshape(-1)


def write(patch: jax.Array, filters: SlopedFilterbanks) -> jax.Array:
  """[H, W, C] of a patch [C, N, N]."""
  return addition(patch, filters).transpose(1, 2, 0)
