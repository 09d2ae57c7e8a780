"""Filterbank attention for CPUs: small products written for XLA's CPU backend.

Every function takes ONE example; callers `vmap`. Shapes: I rows, K inner, J columns, N filters per axis, H W C image.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from latentjax.models.draw.attention import Filterbanks, Window
from latentjax.models.draw.attention_filters import filter_params, gaussian_filters
from latentjax.runtime.precision import exact_product


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def product(x: jax.Array, y: jax.Array, transpose: bool = False) -> jax.Array:
  """[I, J] x y of x [I, K] and y [K, J], or x y^T of y [J, K] with `transpose`, for a CPU.

  As matmul, but for what its gradient multiplies: `transposed_copy` of the factors.
  """
  return x @ (y.T if transpose else y)


def product_forward(x, y, transpose):
  return product(x, y, transpose), (x, y)


def product_backward(transpose, residuals, gradient):
  x, y = residuals
  if transpose:
    return gradient @ y, transposed_copy(gradient) @ x
  return gradient @ transposed_copy(y), transposed_copy(x) @ gradient


product.defvjp(product_forward, product_backward)


def transposed_copy(x: jax.Array) -> jax.Array:
  """x^T as an array of its own: XLA's product with a transposed factor takes 2 to 3 times as long on a CPU."""
  return jax.lax.optimization_barrier(x.T)


def row_sums_by_product(x: jax.Array) -> jax.Array:
  """`row_sums` as a product with ones: XLA's sums of short rows take 3 times as long on a CPU."""
  return exact_product(x, np.ones((x.shape[-1], 1), np.float32))[:, 0]


def combination_by_product(values: Sequence[jax.Array | float], rows: np.ndarray) -> jax.Array:
  """`combination` as one product, with one for all of its gradient, for a CPU."""
  return exact_product(jnp.stack([jnp.asarray(value) for value in values]), rows.astype(np.float32))


def filterbanks_cpu(window: Window, gain: jax.Array, size: int, height: int, width: int) -> Filterbanks:
  """Both axes of a window in one call."""
  rows = filter_params([window], [gain], [size], combination_by_product)
  filters = gaussian_filters(*rows, (height,) * size + (width,) * size, row_sums_by_product)
  return Filterbanks(window, filters[:size, :height], filters[size:, :width])


def read_cpu(image: jax.Array, filters: Filterbanks) -> jax.Array:
  """`attention.read` for a CPU."""
  height, width, channels = image.shape
  rows = product(filters.vertical, image.transpose(0, 2, 1).reshape(height, -1))  # [N, C W]
  glimpse = product(rows.reshape(-1, width), filters.horizontal, True)  # [N C, N]
  return glimpse.reshape(-1, channels, glimpse.shape[-1]).transpose(1, 0, 2)


def write_cpu(patch: jax.Array, filters: Filterbanks) -> jax.Array:
  """`attention.write` for a CPU."""
  channels, size, _ = patch.shape
  rows = product(patch.transpose(1, 0, 2).reshape(-1, size), filters.horizontal)  # [N C, W]
  image = product(transposed_copy(filters.vertical), rows.reshape(size, -1))  # [H, C W]
  return image.reshape(len(image), channels, -1).transpose(0, 2, 1)
