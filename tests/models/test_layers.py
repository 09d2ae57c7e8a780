"""Convolutions against loops in float64, and the written-out gradients against XLA's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from latentjax.models.layers import _convolve_on_cpu, conv_same, depth_to_space, space_to_depth


def normal(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def with_gradients(convolve):
  """Returns a function (x, kernel, weights) -> (sum of weights times output, gradients of x and of the kernel)."""
  return jax.jit(jax.value_and_grad(lambda x, kernel, weights: (weights * convolve(x, kernel)).sum(), argnums=(0, 1)))


def assert_close(found, expected):
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), found, expected)


def test_convolution_equals_a_loop():
  x, kernel = normal(0, 2, 3, 4, 2), normal(1, 3, 3, 2, 5)
  padded = np.pad(x.astype(np.float64), [(0, 0), (1, 1), (1, 1), (0, 0)])
  expected = np.zeros((2, 3, 4, 5))
  for r, c, i, j in np.ndindex(3, 4, 3, 3):
    expected[:, r, c] += padded[:, r + i, c + j] @ kernel[i, j]
  np.testing.assert_allclose(conv_same(x, kernel), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("resolution", [(1, 1), (7, 7), (14, 12)])
def test_written_out_gradients_are_those_of_xla(resolution, size):
  """At 1 x 1 most of the kernel lies outside; the two ways to sum have their border between the others."""
  arguments = normal(0, 2, *resolution, 3), normal(1, size, size, 3, 4), normal(2, 2, *resolution, 4)
  assert_close(with_gradients(_convolve_on_cpu)(*arguments), with_gradients(conv_same)(*arguments))


def test_gradients_of_several_kernels_in_a_loop():
  """As when several seeds train in one program."""
  kernels, images, weights = normal(0, 2, 3, 3, 3, 3), normal(1, 2, 2, 4, 5, 3), normal(2, 2, 2, 4, 5, 3)

  def descend(convolve):
    gradient = jax.vmap(jax.grad(lambda kernel, x, w: (w * jnp.tanh(convolve(x, kernel))).sum()))

    def step(_, kernels):
      return kernels - 0.1 * gradient(kernels, images, weights)

    return jax.jit(lambda kernels: jax.lax.fori_loop(0, 3, step, kernels))(kernels)

  assert_close(descend(_convolve_on_cpu), descend(conv_same))


def test_samples_share_a_kernel():
  """As in the importance-weighted bound."""
  x, kernel, weights = normal(0, 4, 2, 4, 5, 3), normal(1, 3, 3, 3, 2), normal(2, 4, 2, 4, 5, 2)
  of_samples = [with_gradients(jax.vmap(convolve, (0, None))) for convolve in (_convolve_on_cpu, conv_same)]
  assert_close(of_samples[0](x, kernel, weights), of_samples[1](x, kernel, weights))


def test_space_to_depth_and_back():
  x = normal(0, 2, 4, 9, 5)
  channels = space_to_depth(x, 2, 3)
  assert channels.shape == (2, 2, 3, 30)
  for r, c in np.ndindex(2, 3):
    np.testing.assert_array_equal(channels[:, r, c], x[:, 2 * r : 2 * r + 2, 3 * c : 3 * c + 3].reshape(2, -1))
  np.testing.assert_array_equal(depth_to_space(channels, 4, 9), x)
