"""Gaussian filters of several axes at once, with a hand-written gradient.

Shapes: N filters per axis, R filters of several axes, A pixels of an axis.
"""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import numpy as np

from latentjax.models.draw.attention import Window, filter_offsets, offsets_from_nearest, unnormalized_filters


def filter_params(
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


def axis_lengths(sizes: Sequence[int], axes: Sequence[int]) -> tuple[int, ...]:
  """R numbers of pixels: of each filter's axis.

  Args:
    sizes: filters per axis of each window.
    axes: pixels of every axis of every window.
  """
  return tuple(np.repeat(axes, np.repeat(sizes, 2)).tolist())


def split_by_axis(rows: jax.Array, sizes: Sequence[int], axes: Sequence[int]) -> list[jax.Array]:
  """What [R] or [R, A] has of every axis, without what fills shorter axes up; arguments as of `extents`."""
  ends = np.cumsum(each := np.repeat(sizes, 2))
  parts = [rows[end - size : end] for end, size in zip(ends, each, strict=True)]
  return parts if rows.ndim == 1 else [part[:, :extent] for part, extent in zip(parts, axes, strict=True)]


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def gaussian_filters(
  means: jax.Array, variances: jax.Array, sums: jax.Array, extents: tuple[int, ...], row_sums: Callable
) -> jax.Array:
  """[R, A] filters of any axes: `attention.filterbank` for all of them at once.

  The gradient is written out in `filters_backward`, which needs of a step only the filters themselves.

  Args:
    means, variances: [R] pixels, pixels^2.
    sums: [R] what each filter adds up to.
    extents: R numbers of pixels, of each filter's axis; A is the longest, and shorter axes are filled up with zeros.
    row_sums: [R, A] -> [R].
  """
  weights, _, _ = unnormalized_filters(means, variances, extents)
  return weights * (sums / row_sums(weights))[:, None]


def filters_forward(means, variances, sums, extents, row_sums):
  filters = gaussian_filters(means, variances, sums, extents, row_sums)
  return filters, (filters, means, variances, sums)


def filters_backward(extents, row_sums, residuals, gradient):
  """Of s_i softmax_a(e_ia), e_ia = -(a - n_i)(a + n_i - 2 mu_i) / (2 v_i): to mu, v and s."""
  filters, means, variances, sums = residuals
  distance, span = offsets_from_nearest(means, extents)
  to_sums = row_sums(filters / sums[:, None] * gradient)
  to_exponents = filters * (gradient - to_sums[:, None])
  moments = to_exponents * distance
  return row_sums(moments) / variances, 0.5 * row_sums(moments * span) / variances**2, to_sums


gaussian_filters.defvjp(filters_forward, filters_backward)


def row_sums(x: jax.Array) -> jax.Array:
  """[I] of x [I, J]."""
  return x.sum(-1)


def combination(values: Sequence[jax.Array | float], rows: np.ndarray) -> jax.Array:
  """[R] sum_i values_i rows_i of scalars and constant rows [len(values), R]: compiled into what uses it."""
  return sum(value * row for value, row in zip(values, rows.astype(np.float32), strict=True))
