"""Gaussian filters of several axes at once, with a hand-written gradient.

Shapes: N filters per axis, R filters of several axes, A pixels of the longest axis.
"""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import numpy as np

from latentjax.models.draw.attention import Window, filter_offsets, offsets_from_nearest, unnormalized_filters


def filter_params(
  windows: Sequence[Window], gains: Sequence[jax.Array], sizes: Sequence[int], combination: Callable
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Returns the mean, variance and sum of every filter, [R] each: all windows, vertical before horizontal.

      mean = center of its axis + offset stride,   variance = that of its window,   sum = gain if vertical, else 1

  Each is a sum of scalars times constant rows, computed by `combination`.
  """
  axis_sizes = np.repeat(sizes, 2)
  axis_masks = np.repeat(np.eye(len(axis_sizes)), axis_sizes, axis=1)  # [axes, R] 0 or 1
  window_masks = axis_masks[::2] + axis_masks[1::2]
  offsets = np.concatenate([filter_offsets(size) for size in axis_sizes])  # [R]
  centers = [center for window in windows for center in (window.center_y, window.center_x)]
  strides = [window.stride for window in windows]
  means = combination([*centers, *strides], np.concatenate([axis_masks, window_masks * offsets]))
  variances = combination([window.variance for window in windows], window_masks)
  sums = combination([*gains, 1.0], np.concatenate([axis_masks[::2], axis_masks[1::2].sum(0, keepdims=True)]))
  return means, variances, sums


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def gaussian_filters(
  means: jax.Array, variances: jax.Array, sums: jax.Array, extents: tuple[int, ...], row_sums: Callable
) -> jax.Array:
  """Returns the filters of `attention.filterbank` for several axes at once, [R, A]; shorter axes are padded with zeros.

  The hand-written gradient stores only the filters and their parameters. For the arguments see `filter_params` and
  `attention.offsets_from_nearest`; `row_sums` sums [R, A] to [R].
  """
  weights, _, _ = unnormalized_filters(means, variances, extents)
  return weights * (sums / row_sums(weights))[:, None]


def _filters_forward(means, variances, sums, extents, row_sums):
  filters = gaussian_filters(means, variances, sums, extents, row_sums)
  return filters, (filters, means, variances, sums)


def _filters_backward(extents, row_sums, residuals, gradient):
  """Gradients of s_i softmax_a(e_ia), e_ia = -(a - n_i)(a + n_i - 2 mu_i) / (2 v_i), with respect to mu, v and s."""
  filters, means, variances, sums = residuals
  distance, span = offsets_from_nearest(means, extents)
  sum_grads = row_sums(filters / sums[:, None] * gradient)
  exponent_grads = filters * (gradient - sum_grads[:, None])
  moments = exponent_grads * distance
  return row_sums(moments) / variances, 0.5 * row_sums(moments * span) / variances**2, sum_grads


gaussian_filters.defvjp(_filters_forward, _filters_backward)


def row_sums(x: jax.Array) -> jax.Array:
  """Sums [I, J] to [I]."""
  return x.sum(-1)


def combination(values: Sequence[jax.Array | float], rows: np.ndarray) -> jax.Array:
  """Returns sum_i values_i rows_i, [R], for scalars and constant rows [len(values), R]; XLA fuses it with its users."""
  return sum(value * row for value, row in zip(values, rows.astype(np.float32), strict=True))
