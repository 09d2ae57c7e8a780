"""Products and sums of many small matrices, one of an example each, that a CPU too computes fast.

Shapes: I rows, K inner, J columns. Callers `vmap`.
"""

from functools import partial

import jax
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
  return gradient @ y.T, transposed(x) @ gradient


product.defvjp(keep_factors, product_gradient)


def transposed(x: jax.Array) -> jax.Array:
  """x^T, on a CPU as an array of its own: XLA's product of a matrix read by columns takes 3 times as long there."""
  return jax.lax.platform_dependent(x.T, cpu=jax.lax.optimization_barrier, default=lambda flipped: flipped)


def row_sums(x: jax.Array) -> jax.Array:
  """[I] of x [I, J], on a CPU as a product with ones: XLA's sums of short rows take 3 times as long there."""

  def by_product(x):
    return (x @ np.ones((x.shape[-1], 1), np.float32))[:, 0]

  return jax.lax.platform_dependent(x, cpu=by_product, default=lambda x: x.sum(-1))
