"""Products and sums of many small matrices, one of an example each, that a CPU too computes fast.

Shapes: I rows, K inner, J columns. Callers `vmap`.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def product(x: jax.Array, y: jax.Array, flip: bool = False) -> jax.Array:
  """[I, J] x y of x [I, K] and y [K, J], or x y^T of y [J, K] with `flip`.

  As matmul, but for what its gradient multiplies: `transposed` arrays.
  """
  return x @ (y.T if flip else y)


def keep_factors(x, y, flip):
  return product(x, y, flip), (x, y)


def product_gradient(flip, kept, gradient):
  x, y = kept
  if flip:
    return gradient @ y, transposed(gradient) @ x
  return gradient @ transposed(y), transposed(x) @ gradient


product.defvjp(keep_factors, product_gradient)


def transposed(x: jax.Array) -> jax.Array:
  """x^T, on a CPU as an array of its own: XLA's product with a transposed factor takes 2 to 3 times as long there."""
  return jax.lax.platform_dependent(x.T, cpu=jax.lax.optimization_barrier, default=lambda flipped: flipped)


# A product that stands for additions: as exact as they are, whatever precision a config asks of its products.
exact_product = partial(jnp.matmul, precision="highest")


def row_sums(x: jax.Array) -> jax.Array:
  """[I] of x [I, J], on a CPU as a product with ones: XLA's sums of short rows take 3 times as long there."""

  def by_product(x):
    return exact_product(x, np.ones((x.shape[-1], 1), np.float32))[:, 0]

  return jax.lax.platform_dependent(x, cpu=by_product, default=lambda x: x.sum(-1))


def combination(values: Sequence[jax.Array | float], rows: np.ndarray) -> jax.Array:
  """[R] sum_i values_i rows_i of scalars and constant rows [len(values), R].

  On a CPU a product, with one for all of its gradient; elsewhere arithmetic, which is compiled into what uses it.
  """

  def by_product(*values):
    return exact_product(jnp.stack(values), rows.astype(np.float32))

  def by_arithmetic(*values):
    return sum(value * row for value, row in zip(values, rows.astype(np.float32), strict=True))

  return jax.lax.platform_dependent(*map(jnp.asarray, values), cpu=by_product, default=by_arithmetic)
