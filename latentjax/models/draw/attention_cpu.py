"""Filterbank attention for CPUs, written as small matrix products that XLA's CPU backend runs fast.

Every function takes one example; callers `vmap`. Shapes: N filters per axis, H W C image, R filters of several axes,
I K J rows, inner and columns of a product.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from latentjax.models.draw.attention import Filterbanks, Window
from latentjax.models.draw.attention_filters import filter_params, gaussian_filters
from latentjax.runtime.precision import exact_product


def filterbanks_cpu(window: Window, gain: jax.Array, size: int, height: int, width: int) -> Filterbanks:
  """`attention.filterbanks`, both axes in one call."""
  params = filter_params([window], [gain], [size], combination_by_product)
  filters = gaussian_filters(*params, (height,) * size + (width,) * size, row_sums_by_product)
  return Filterbanks(window, filters[:size, :height], filters[size:, :width])


def read_cpu(image: jax.Array, filters: Filterbanks) -> jax.Array:
  """`attention.read` as two products."""
  height, width, channels = image.shape
  rows = product(filters.vertical, image.transpose(0, 2, 1).reshape(height, -1))  # [N, C W]
  glimpse = product(rows.reshape(-1, width), filters.horizontal, True)  # [N C, N]
  return glimpse.reshape(-1, channels, glimpse.shape[-1]).transpose(1, 0, 2)


def write_cpu(patch: jax.Array, filters: Filterbanks) -> jax.Array:
  """`attention.write` as two products."""
  channels, size, _ = patch.shape
  rows = product(patch.transpose(1, 0, 2).reshape(-1, size), filters.horizontal)  # [N C, W]
  image = product(transposed_copy(filters.vertical), rows.reshape(size, -1))  # [H, C W]
  return image.reshape(len(image), channels, -1).transpose(0, 2, 1)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def product(x: jax.Array, y: jax.Array, transpose: bool = False) -> jax.Array:
  """Returns x y, [I, J], of x [I, K] and y [K, J], or x y^T of y [J, K]; its gradient uses `transposed_copy`."""
  return x @ (y.T if transpose else y)


def _product_forward(x, y, transpose):
  return product(x, y, transpose), (x, y)


def _product_backward(transpose, residuals, gradient):
  x, y = residuals
  if transpose:
    return gradient @ y, transposed_copy(gradient) @ x
  return gradient @ transposed_copy(y), transposed_copy(x) @ gradient


product.defvjp(_product_forward, _product_backward)


def transposed_copy(x: jax.Array) -> jax.Array:
  """Materializes x^T: XLA's product with a transposed factor takes 2 to 3 times as long on a CPU."""
  return jax.lax.optimization_barrier(x.T)


def row_sums_by_product(x: jax.Array) -> jax.Array:
  """`row_sums` as a product with ones: XLA's sums of short rows take 3 times as long on a CPU."""
  return exact_product(x, np.ones((x.shape[-1], 1), np.float32))[:, 0]


def combination_by_product(values: Sequence[jax.Array | float], rows: np.ndarray) -> jax.Array:
  """`combination` as one product, with a single product for its gradient."""
  return exact_product(jnp.stack([jnp.asarray(value) for value in values]), rows.astype(np.float32))
