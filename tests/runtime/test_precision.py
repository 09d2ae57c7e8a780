"""bfloat16 on a CPU, where XLA ignores the precision of a product, against inputs rounded by NumPy."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax import lax

from latentjax.models import layers
from latentjax.runtime.precision import at_precision, exact_product

pytestmark = pytest.mark.skipif(jax.default_backend() != "cpu", reason="a GPU or TPU rounds by itself")

X = np.asarray(jax.random.normal(jax.random.key(0), (5, 7)))
Y = np.asarray(jax.random.normal(jax.random.key(1), (7, 7)))


def rounded(x):
  return np.asarray(x).astype(ml_dtypes.bfloat16).astype(np.float64)


def rounded32(x):
  return rounded(x).astype(np.float32)


def compute(function, *args, precision="bfloat16"):
  return jax.jit(at_precision(precision, function))(*args)


def test_inputs_of_a_product_are_rounded_and_its_sum_is_not():
  found, exact = compute(jnp.matmul, X, Y), rounded(X) @ rounded(Y)
  np.testing.assert_allclose(found, exact, rtol=1e-5, atol=1e-6)
  assert np.abs(exact - X @ Y).max() > 1e-3
  assert found.dtype == np.float32


@pytest.mark.parametrize("precision", ["float32", "tensorfloat32"])
def test_other_precisions_do_not_round(precision):
  np.testing.assert_allclose(compute(jnp.matmul, X, Y, precision=precision), X @ Y, rtol=1e-5, atol=1e-6)


def test_batched_products_are_rounded():
  batch = np.stack([X, 2 * X, -X])
  found = compute(lambda x, y: jax.vmap(jnp.matmul)(x, y), batch, np.stack([Y, Y, 3 * Y]))
  exact = rounded(batch) @ rounded(np.stack([Y, Y, 3 * Y]))
  np.testing.assert_allclose(found, exact, rtol=1e-5, atol=1e-5)


def test_products_of_gradients_are_rounded():
  weights = np.asarray(jax.random.normal(jax.random.key(2), (5, 7)))
  to_x, to_y = compute(jax.grad(lambda x, y: (weights * (x @ y)).sum(), argnums=(0, 1)), X, Y)
  np.testing.assert_allclose(to_x, rounded(weights) @ rounded(Y).T, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(to_y, rounded(X).T @ rounded(weights), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("convolve", [layers.conv_same, layers._convolve_on_cpu])
def test_convolutions_and_their_gradients_are_rounded(convolve):
  x, kernel, weights = (
    np.asarray(jax.random.normal(jax.random.key(i), shape))
    for i, shape in enumerate([(2, 7, 6, 3), (3, 3, 3, 4), (2, 7, 6, 4)])
  )
  products = np.asarray(jax.vjp(layers.conv_same, rounded32(x), rounded32(kernel))[0])
  to_x, to_kernel = jax.vjp(layers.conv_same, rounded32(x), rounded32(kernel))[1](rounded32(weights))
  found = compute(convolve, x, kernel)
  np.testing.assert_allclose(found, products, rtol=1e-5, atol=1e-5)
  assert np.abs(found - layers.conv_same(x, kernel)).max() > 1e-3
  gradients = compute(jax.grad(lambda x, kernel: (weights * convolve(x, kernel)).sum(), argnums=(0, 1)), x, kernel)
  np.testing.assert_allclose(gradients[0], to_x, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(gradients[1], to_kernel, rtol=1e-5, atol=1e-5)


def test_products_in_loops_branches_and_inner_functions_are_rounded():
  def function(x, y, count):
    x, _ = lax.scan(lambda x, _: (jax.jit(jnp.matmul)(x, y), None), x, None, length=count)
    x = lax.cond(x.sum() > jnp.inf, lambda x: x, lambda x: x @ y, x)
    return lax.fori_loop(0, 2, lambda _, x: jax.checkpoint(jnp.matmul)(x, y), x)

  exact = X
  for _ in range(6):
    exact = np.float32(rounded(exact) @ rounded(0.3 * Y))
  found = jax.jit(at_precision("bfloat16", function), static_argnums=2)(X, np.float32(0.3) * Y, 3)
  np.testing.assert_allclose(found, exact, rtol=1e-3, atol=1e-3)
  assert np.abs(exact - X @ np.linalg.matrix_power(0.3 * Y, 6)).max() > 5e-3


def test_exact_product_is_not_rounded():
  np.testing.assert_allclose(compute(exact_product, X, Y), X @ Y, rtol=1e-5, atol=1e-6)


def test_trees_pass_through():
  found = compute(lambda tree: {"product": tree["x"] @ tree["y"], "x": tree["x"], "one": 1.0}, {"x": X, "y": Y})
  assert found.keys() == {"product", "x", "one"}
  np.testing.assert_array_equal(found["x"], X)


def test_gradient_of_weights_shared_by_samples():
  """XLA refuses this product of bfloat16 at run time, at realistic sizes."""
  weights = [np.asarray(0.1 * jax.random.normal(jax.random.key(i), (64, 64))) for i in range(2)]
  samples = np.asarray(jax.random.normal(jax.random.key(2), (5, 256, 64)))

  def value(weights):
    return jax.vmap(lambda x: jnp.tanh(x @ weights[0]) @ weights[1])(samples).mean()

  found, exact = compute(jax.grad(value), weights), jax.grad(value)(weights)
  for gradient, expected in zip(found, exact, strict=True):
    np.testing.assert_allclose(gradient, expected, atol=0.02 * np.abs(expected).max())
