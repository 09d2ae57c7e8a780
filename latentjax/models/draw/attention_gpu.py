"""Attention in few launches, for a GPU: what a window sees is kept with its slopes, so that no filter needs a gradient.

A glimpse G[n, m] = gain sum_hw F_Y[n, h] x[h, w] F_X[m, w] follows from five numbers. With d = a - n the distance of a
pixel from the one nearest to a filter's mean mu, and s = a + n - 2 mu, a filter is the softmax of -d s / (2 v), thus

    d log F / d mu = (d - E d) / v,   d log F / d v = (d s - E d s) / (2 v^2),   E over the filter itself.

So the sums of an image with F F, F F d_Y, F F d_X and F F (d s_Y + d s_X) are the glimpse and its slopes, in one pass.
Writing is the adjoint of reading: its slopes are those of a glimpse of the canvas's gradient.

The barriers say where a launch ends, or XLA makes several small ones of each array. Every function takes ONE example;
callers `vmap`. Shapes: N filters per axis, R filters of several axes, A pixels of an axis, C H W image.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import struct

from latentjax.models.draw import attention
from latentjax.models.draw.attention import Filterbanks, Window, filter_offsets, unnormalized_filters
from latentjax.models.draw.attention_filters import (
  axis_lengths,
  combination,
  filter_params,
  gaussian_filters,
  row_sums,
  split_by_axis,
)

MAX_MOMENT_FILTERS = 5  # N up to which one launch of sums over both axes takes the place of products

Slopes = tuple[jax.Array, jax.Array, jax.Array, jax.Array]  # of d_Y, d_X, d s_Y, d s_X


@struct.dataclass
class FilterbanksWithGrads(Filterbanks):
  """Filters as constants: the gradient goes to `window` and `gain`.

  Attributes:
    gain: on all that passes through.
    slopes: [N, A] each, d and d s of every pixel.
    means: [N] each, E of these.
  """

  gain: jax.Array
  slopes: Slopes
  means: Slopes


def filterbanks_with_grads(
  windows: Sequence[Window], gains: Sequence[jax.Array], sizes: Sequence[int], height: int, width: int
) -> list[FilterbanksWithGrads]:
  """All filters of both axes of all windows in one call: on a GPU four calls cost four times one."""
  axes = (height, width) * len(windows)
  barrier = jax.lax.optimization_barrier
  means, variances, sums = jax.lax.stop_gradient(filter_params(windows, gains, sizes, combination))
  weights, distance, span = unnormalized_filters(means, variances, axis_lengths(sizes, axes))
  weights, distance, square = barrier((weights, distance, distance * span))
  total = weights.sum(-1)
  scale, *expected = barrier((sums / total, *((weights * x).sum(-1) / total for x in (distance, square))))
  filters = weights * scale[:, None]

  def of_both(arrays: Sequence[jax.Array]) -> list[tuple[jax.Array, ...]]:
    """Of every window, the parts of each array for both axes."""
    split = [split_by_axis(x, sizes, axes) for x in arrays]
    return [tuple(part for x in split for part in x[i : i + 2]) for i in range(0, len(axes), 2)]

  every = zip(windows, of_both([filters]), gains, of_both([distance, square]), of_both(expected), strict=True)
  return [FilterbanksWithGrads(window, *both, gain, slopes, means) for window, both, gain, slopes, means in every]


def filter_moments(pictures: jax.Array, filters: FilterbanksWithGrads) -> Slopes:
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


def spread(patch: jax.Array, filters: FilterbanksWithGrads) -> jax.Array:
  """[C, H, W] of a patch [C, N, N], the adjoint of the first of `sums_through`."""
  return (patch[..., None, None] * down(filters.vertical) * across(filters.horizontal)).sum((1, 2))


def window_gradient(patch: jax.Array, sums: Slopes, filters: FilterbanksWithGrads) -> FilterbanksWithGrads:
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
def glimpses(image: jax.Array, error: jax.Array, filters: FilterbanksWithGrads) -> jax.Array:
  """[2 C, N, N] of both [C, H, W]."""
  return glimpses_forward(image, error, filters)[0]


def glimpses_forward(image, error, filters):
  sums = filter_moments(jnp.concatenate([image, error]), filters)
  return sums[0], (sums, filters)


def glimpses_backward(residuals, gradient):
  sums, filters = residuals
  of_image, of_error = jnp.split(gradient, 2)
  return spread(of_image, filters), spread(of_error, filters), window_gradient(gradient, sums, filters)


glimpses.defvjp(glimpses_forward, glimpses_backward)


@jax.custom_vjp
def addition(patch: jax.Array, filters: FilterbanksWithGrads) -> jax.Array:
  """[C, H, W] of a patch [C, N, N]."""
  return spread(patch, filters)


def addition_forward(patch, filters):
  return spread(patch, filters), (patch, filters)


def addition_backward(residuals, gradient):
  patch, filters = residuals
  sums = filter_moments(gradient, filters)
  return sums[0], window_gradient(patch, sums, filters)


addition.defvjp(addition_forward, addition_backward)


def read(image: jax.Array, error: jax.Array, filters: FilterbanksWithGrads) -> jax.Array:
  """[2 C N N] glimpse of both images [H, W, C], one after the other."""
  return glimpses(image.transpose(2, 0, 1), error.transpose(2, 0, 1), filters).reshape(-1)


def write(patch: jax.Array, filters: FilterbanksWithGrads) -> jax.Array:
  """[H, W, C] of a patch [C, N, N]."""
  return addition(patch, filters).transpose(1, 2, 0)


def filterbanks_gpu(
  windows: Sequence[Window], gains: Sequence[jax.Array], sizes: Sequence[int], height: int, width: int
) -> Sequence[Filterbanks]:
  """All filters of all windows in one call: on a GPU four calls cost four times one. Small ones come with slopes."""
  if max(sizes) <= MAX_MOMENT_FILTERS:
    return filterbanks_with_grads(windows, gains, sizes, height, width)
  axes = (height, width) * len(windows)
  rows = filter_params(windows, gains, sizes, combination)
  filters = gaussian_filters(*rows, axis_lengths(sizes, axes), row_sums)
  parts = split_by_axis(filters, sizes, axes)
  return [Filterbanks(window, *parts[i : i + 2]) for i, window in zip(range(0, len(parts), 2), windows, strict=True)]


def read_gpu(image: jax.Array, error: jax.Array, filters: Filterbanks) -> jax.Array:
  """Both as the channels of one image: half as many launches."""
  if isinstance(filters, FilterbanksWithGrads):
    return read(image, error, filters)
  return attention.read(jnp.concatenate([image, error], axis=-1), filters).reshape(-1)


def write_gpu(patch: jax.Array, filters: Filterbanks) -> jax.Array:
  """[H, W, C] of a patch [C, N, N], by what made the filters."""
  if isinstance(filters, FilterbanksWithGrads):
    return write(patch, filters)
  return attention.write(patch, filters)
