"""Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon): matrices step along their momentum made
orthogonal, which moves the directions of a small gradient as far as those of a large one. All other weights take Adam's
steps.

Optax has it for kernels that are one matrix. An LSTM's is four side by side, whose steps are cheaper one by one: the
cost grows with the square of the smaller side.

Shapes: I inputs, O outputs of a layer, n matrices side by side in its kernel.
"""

from collections.abc import Mapping
from functools import reduce

import jax
import jax.numpy as jnp
import optax

from latentjax.models.products import exact_product

STEP_SIZE = 0.4  # root mean square of a matrix's step in units of the learning rate, so that one rate serves both kinds
NARROW = 16  # kernels with a side below this are left to Adam: what the five outputs of a window mean has no directions
MOMENTUM = 0.95
ITERATIONS = 5
COEFFICIENTS = 3.4445, -4.775, 2.0315  # of Jordan et al.: singular values end between 0.7 and 1.2


def scale_by_muon(adam_b1: float, stacked: Mapping[str, int]) -> optax.GradientTransformation:
  """Muon for kernels, Adam for all else, both at a learning rate of 1 and still uphill, as Optax's `scale_by_adam`.

  Args:
    adam_b1: of Adam's part.
    stacked: layers whose kernel [I, n O] is n matrices, and n.
  """

  def kind(path, x: jax.Array) -> str:
    return "matrix" if is_kernel(path) and min(x.shape) >= NARROW else "other"

  def orthogonal_step(path, momentum: jax.Array) -> jax.Array:
    return step(momentum, stacked.get(path[-2].key, 1))

  of_matrices = optax.chain(
    optax.trace(MOMENTUM, nesterov=True),
    optax.stateless(lambda momentum, params: jax.tree_util.tree_map_with_path(orthogonal_step, momentum)),
  )
  kinds = {"matrix": of_matrices, "other": optax.scale_by_adam(adam_b1)}
  return optax.partition(kinds, lambda params: jax.tree_util.tree_map_with_path(kind, params))


def is_kernel(path: tuple) -> bool:
  """Whether what is at this path of a model's weights is the kernel of a layer."""
  return path[-1] == jax.tree_util.DictKey("kernel")


def step(momentum: jax.Array, count: int) -> jax.Array:
  """[I, n O] the step of a kernel that is `count` matrices, each orthogonal by itself."""
  apart = momentum.reshape(len(momentum), count, -1)  # [I, n, O]
  scale = STEP_SIZE * max(len(momentum), apart.shape[-1]) ** 0.5
  return scale * jax.vmap(orthogonal, in_axes=1, out_axes=1)(apart).reshape(momentum.shape)


def orthogonal(x: jax.Array) -> jax.Array:
  """[I, O] U f(S) V^T of a matrix U S V^T, where f, by Newton-Schulz iteration, is near 1 for all but tiny S.

      X <- X P,  P = a + b X^T X + c (X^T X)^2

  Carried out on X^T X alone, or on X X^T if that is smaller, in full float32: rounded more, what should be 0 grows.
  """
  if x.shape[0] < x.shape[1]:
    return orthogonal(x.T).T
  x = x / (jnp.linalg.norm(x) + 1e-8)
  a, b, c = COEFFICIENTS
  square, factors = exact_product(x.T, x), []
  for _ in range(ITERATIONS):
    factors.append(a * jnp.eye(x.shape[1]) + b * square + c * exact_product(square, square))
    square = exact_product(exact_product(factors[-1], square), factors[-1])
  return exact_product(x, reduce(exact_product, factors))
