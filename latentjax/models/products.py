"""Products and sums of many small matrices, one of an example each: as JAX has them, and as a CPU computes them fast.

Shapes: I rows, K inner, J columns. Callers `vmap`.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np


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


# A product that stands for additions: as exact as they are, whatever precision a config asks of its products.
exact_product = partial(jnp.matmul, precision="highest")


def row_sums(x: jax.Array) -> jax.Array:
  """[I] of x [I, J]."""
  return x.sum(-1)


def row_sums_by_product(x: jax.Array) -> jax.Array:
  """`row_sums` as a product with ones: XLA's sums of short rows take 3 times as long on a CPU."""
  return exact_product(x, np.ones((x.shape[-1], 1), np.float32))[:, 0]


def combination(values: Sequence[jax.Array | float], rows: np.ndarray) -> jax.Array:
  """[R] sum_i values_i rows_i of scalars and constant rows [len(values), R]: compiled into what uses it."""
  return sum(value * row for value, row in zip(values, rows.astype(np.float32), strict=True))


def combination_by_product(values: Sequence[jax.Array | float], rows: np.ndarray) -> jax.Array:
  """`combination` as one product, with one for all of its gradient, for a CPU."""
  return exact_product(jnp.stack([jnp.asarray(value) for value in values]), rows.astype(np.float32))
