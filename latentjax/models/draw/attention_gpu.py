"""Filterbank attention for GPUs, in few kernel launches: filters of small windows carry their derivatives.

A glimpse G[n, m] = gain sum_hw F_Y[n, h] x[h, w] F_X[m, w] depends on five parameters of its window. With d = a - n,
the distance of a pixel from the one nearest to a filter's mean mu, and s = a + n - 2 mu, a filter is the softmax of
-d s / (2 v), hence

    d log F / d mu = (d - E d) / v,   d log F / d v = (d s - E d s) / (2 v^2),   E over the filter itself.

So the moments of an image, its sums with F F, F F d_Y, F F d_X and F F (d s_Y + d s_X), give the glimpse and its
derivatives in one pass. Writing is the adjoint of reading, so its derivatives are moments of the canvas's gradient.

Optimization barriers mark the ends of launches; without them XLA splits each array into several small ones. Every
function takes one example; callers `vmap`. Shapes: N filters per axis, R filters of several axes, A pixels of an axis,
C H W image.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from latentjax.models.draw import attention
from latentjax.models.draw.attention import Filterbanks, Window, filter_offsets, unnormalized_filters
from latentjax.models.draw.attention_filters import combination, filter_params, gaussian_filters, row_sums

MAX_MOMENT_FILTERS = 5  # largest N for which moments, summed over both axes in one launch, replace matrix products
Moments = tuple[jax.Array, jax.Array, jax.Array, jax.Array]


def filterbanks_gpu(
  windows: Sequence[Window], gains: Sequence[jax.Array], sizes: Sequence[int], height: int, width: int
) -> Sequence[Filterbanks]:
  """Computes the filters of both axes of all windows in one call: on a GPU four calls cost four times as much."""
  axes = (height, width) * len(windows)
  extents = tuple(np.repeat(axes, np.repeat(sizes, 2)).tolist())  # length of the axis of each of the R filters
  params = filter_params(windows, gains, sizes, combination)
  if max(sizes) <= MAX_MOMENT_FILTERS:
    return _filterbanks_with_grads(windows, gains, sizes, axes, extents, jax.lax.stop_gradient(params))
  filters = _by_window([gaussian_filters(*params, extents, row_sums)], sizes, axes)
  return [Filterbanks(window, *both) for window, both in zip(windows, filters, strict=True)]


def _by_window(arrays: Sequence[jax.Array], sizes: Sequence[int], axes: Sequence[int]) -> list[tuple[jax.Array, ...]]:
  """Returns for every window the slices of each array, [R] or [R, A], for both axes, without padding."""
  slices = []
  for array in arrays:
    ends = np.cumsum(axis_sizes := np.repeat(sizes, 2))
    split = [array[end - size : end] for end, size in zip(ends, axis_sizes, strict=True)]
    slices.append(split if array.ndim == 1 else [x[:, :extent] for x, extent in zip(split, axes, strict=True)])
  return [tuple(axis for split in slices for axis in split[i : i + 2]) for i in range(0, len(axes), 2)]


def read_gpu(image: jax.Array, error: jax.Array, filters: Filterbanks) -> jax.Array:
  """Reads the glimpses of both images [H, W, C] at once, [2 C N N]: half as many launches."""
  if isinstance(filters, FilterbanksWithGrads):
    return _read(image.transpose(2, 0, 1), error.transpose(2, 0, 1), filters).reshape(-1)
  return attention.read(jnp.concatenate([image, error], axis=-1), filters).reshape(-1)


def write_gpu(patch: jax.Array, filters: Filterbanks) -> jax.Array:
  """Writes a patch [C, N, N] to an image [H, W, C]."""
  if isinstance(filters, FilterbanksWithGrads):
    return _write(patch, filters).transpose(1, 2, 0)
  return attention.write(patch, filters)


@struct.dataclass
class FilterbanksWithGrads(Filterbanks):
  """Filters treated as constants: gradients go to `window` and `gain` directly."""

  gain: jax.Array  # of the vertical filters
  distances: Moments  # d_Y, d_X, d s_Y and d s_X of every pixel, [N, A] each
  expectations: Moments  # E of these, [N] each


def _filterbanks_with_grads(windows, gains, sizes, axes, extents, params) -> list[FilterbanksWithGrads]:
  barrier = jax.lax.optimization_barrier
  means, variances, sums = params
  weights, distance, span = unnormalized_filters(means, variances, extents)
  weights, distance, square = barrier((weights, distance, distance * span))
  total = weights.sum(-1)
  scale, *expected = barrier((sums / total, *((weights * x).sum(-1) / total for x in (distance, square))))
  split = (_by_window(x, sizes, axes) for x in ([weights * scale[:, None]], [distance, square], expected))
  args = zip(windows, gains, *split, strict=True)
  return [FilterbanksWithGrads(window, *filters, gain, *moments) for window, gain, filters, *moments in args]


@jax.custom_vjp
def _read(image: jax.Array, error: jax.Array, filters: FilterbanksWithGrads) -> jax.Array:
  """Returns the glimpses of both images [C, H, W], [2 C, N, N]."""
  return _read_forward(image, error, filters)[0]


def _read_forward(image, error, filters):
  moments = _filter_moments(jnp.concatenate([image, error]), filters)
  return moments[0], (moments, filters)


def _read_backward(residuals, gradient):
  moments, filters = residuals
  image_grads = (_write_filters(half, filters) for half in jnp.split(gradient, 2))
  return *image_grads, _window_gradient(gradient, moments, filters)


_read.defvjp(_read_forward, _read_backward)


@jax.custom_vjp
def _write(patch: jax.Array, filters: FilterbanksWithGrads) -> jax.Array:
  """Returns the image [C, H, W] of a patch [C, N, N]."""
  return _write_filters(patch, filters)


def _write_forward(patch, filters):
  return _write_filters(patch, filters), (patch, filters)


def _write_backward(residuals, gradient):
  patch, filters = residuals
  moments = _filter_moments(gradient, filters)
  return moments[0], _window_gradient(patch, moments, filters)


_write.defvjp(_write_forward, _write_backward)


def _filter_moments(images: jax.Array, filters: FilterbanksWithGrads) -> Moments:
  """Returns the sums of images [C, H, W] with F F, F F d_Y, F F d_X and F F (d s_Y + d s_X), [C, N, N] each."""
  d_y, d_x, square_y, square_x = filters.distances
  weighted = _along_y(filters.vertical) * _along_x(filters.horizontal) * images[:, None, None]  # [C, N, N, H, W]
  factors = _along_y(d_y), _along_x(d_x), _along_y(square_y) + _along_x(square_x)
  return weighted.sum((-2, -1)), *((weighted * factor).sum((-2, -1)) for factor in factors)


def _write_filters(patch: jax.Array, filters: FilterbanksWithGrads) -> jax.Array:
  """Returns the image [C, H, W] of a patch [C, N, N], the adjoint of the first of `_filter_moments`."""
  return (patch[..., None, None] * _along_y(filters.vertical) * _along_x(filters.horizontal)).sum((1, 2))


def _along_y(x: jax.Array) -> jax.Array:
  """Reshapes vertical filters [N, A] to [1, N, 1, A, 1]."""
  return x[None, :, None, :, None]


def _along_x(x: jax.Array) -> jax.Array:
  """Reshapes horizontal filters [N, A] to [1, 1, N, 1, A]."""
  return x[None, None, :, None, :]


def _window_gradient(patch: jax.Array, moments: Moments, filters: FilterbanksWithGrads) -> FilterbanksWithGrads:
  """Returns the gradient of sum patch * glimpse with respect to window and gain, from the moments of the image."""
  glimpse, moment_y, moment_x, moment_squares = moments
  expected_y, expected_x, expected_square_y, expected_square_x = filters.expectations
  offsets = filter_offsets(len(expected_y))
  mean_grads_y = patch * (moment_y - expected_y[None, :, None] * glimpse)
  mean_grads_x = patch * (moment_x - expected_x[None, None] * glimpse)
  expected_squares = expected_square_y[None, :, None] + expected_square_x[None, None]
  square_grads = patch * (moment_squares - expected_squares * glimpse)
  stride_grads = offsets[None, :, None] * mean_grads_y + offsets[None, None] * mean_grads_x
  precision = 1 / filters.window.variance
  return jax.tree.map(jnp.zeros_like, filters).replace(
    window=Window(
      center_x=mean_grads_x.sum() * precision,
      center_y=mean_grads_y.sum() * precision,
      stride=stride_grads.sum() * precision,
      variance=0.5 * square_grads.sum() * precision * precision,
      intensity=jnp.zeros_like(precision),
    ),
    gain=(patch * glimpse).sum() / filters.gain,
  )
