"""The same attention in three layouts: as the paper has it, for few launches (see `joint`), and for a CPU.

Their values are those of attention.py. Every function takes ONE example; callers `vmap`.
Shapes: N filters per axis, R filters of several axes, A pixels of an axis, H W C image.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from latentjax.models import products
from latentjax.models.draw import attention, joint
from latentjax.models.draw.attention import Filterbanks, Window, from_nearest, unnormalised


class Layout(NamedTuple):
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


def joint_filterbanks(
  windows: Sequence[Window], gains: Sequence[jax.Array], sizes: Sequence[int], height: int, width: int
) -> Sequence[Filterbanks]:
  """All filters of all windows in one call: on a GPU four calls cost four times one. Small ones come with slopes."""
  if max(sizes) <= joint.LARGEST_SUM:
    return joint.filterbanks(windows, gains, sizes, height, width)
  axes = (height, width) * len(windows)
  rows = joint.row_numbers(windows, gains, sizes, products.combination)
  filters = gaussian_filters(*rows, joint.extents(sizes, axes), products.row_sums)
  parts = joint.by_axis(filters, sizes, axes)
  return [Filterbanks(window, *parts[i : i + 2]) for i, window in zip(range(0, len(parts), 2), windows, strict=True)]


def read_jointly(image: jax.Array, error: jax.Array, filters: Filterbanks) -> jax.Array:
  """Both as the channels of one image: half as many launches."""
  if isinstance(filters, joint.SlopedFilterbanks):
    return joint.read(image, error, filters)
  return attention.read(jnp.concatenate([image, error], axis=-1), filters).reshape(-1)


def write_jointly(patch: jax.Array, filters: Filterbanks) -> jax.Array:
  """[H, W, C] of a patch [C, N, N], by what made the filters."""
  return (joint if isinstance(filters, joint.SlopedFilterbanks) else attention).write(patch, filters)


def window_filterbanks_by_product(window: Window, gain: jax.Array, size: int, height: int, width: int) -> Filterbanks:
  """Both axes of a window in one call."""
  rows = joint.row_numbers([window], [gain], [size], products.combination_by_product)
  filters = gaussian_filters(*rows, (height,) * size + (width,) * size, products.row_sums_by_product)
  return Filterbanks(window, filters[:size, :height], filters[size:, :width])


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
  weights, _, _ = unnormalised(means, variances, extents)
  return weights * (sums / row_sums(weights))[:, None]


def filters_forward(means, variances, sums, extents, row_sums):
  filters = gaussian_filters(means, variances, sums, extents, row_sums)
  return filters, (filters, means, variances, sums)


def filters_backward(extents, row_sums, residuals, gradient):
  """Of s_i softmax_a(e_ia), e_ia = -(a - n_i)(a + n_i - 2 mu_i) / (2 v_i): to mu, v and s."""
  filters, means, variances, sums = residuals
  distance, span = from_nearest(means, extents)
  to_sums = row_sums(filters / sums[:, None] * gradient)
  to_exponents = filters * (gradient - to_sums[:, None])
  moments = to_exponents * distance
  return row_sums(moments) / variances, 0.5 * row_sums(moments * span) / variances**2, to_sums


gaussian_filters.defvjp(filters_forward, filters_backward)


def read_each(read: Callable, image: jax.Array, error: jax.Array, filters: Filterbanks) -> jax.Array:
  """Image and error image apart, so that the image is not copied beside every error."""
  return jnp.concatenate([read(image, filters).reshape(-1), read(error, filters).reshape(-1)])


def read_by_product(image: jax.Array, filters: Filterbanks) -> jax.Array:
  """`attention.read` for a CPU."""
  height, width, channels = image.shape
  rows = products.product(filters.vertical, image.transpose(0, 2, 1).reshape(height, -1))  # [N, C W]
  glimpse = products.product(rows.reshape(-1, width), filters.horizontal, True)  # [N C, N]
  return glimpse.reshape(-1, channels, glimpse.shape[-1]).transpose(1, 0, 2)


def write_by_product(patch: jax.Array, filters: Filterbanks) -> jax.Array:
  """`attention.write` for a CPU."""
  channels, size, _ = patch.shape
  rows = products.product(patch.transpose(1, 0, 2).reshape(-1, size), filters.horizontal)  # [N C, W]
  image = products.product(products.transposed_copy(filters.vertical), rows.reshape(size, -1))  # [H, C W]
  return image.reshape(len(image), channels, -1).transpose(0, 2, 1)


REFERENCE = Layout(partial(each_window, attention.filterbanks), partial(read_each, attention.read), attention.write)
LAYOUTS = {
  "joint": Layout(joint_filterbanks, read_jointly, write_jointly),
  "separate": Layout(
    partial(each_window, window_filterbanks_by_product), partial(read_each, read_by_product), write_by_product
  ),
}
