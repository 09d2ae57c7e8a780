"""The reference filterbank, reading and writing against float64 loops of the paper's equations."""

import itertools
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest

from latentjax.models.draw import attention

SHAPES = [(6, 5, 1), (5, 7, 3)]
SIZES = [1, 2, 5]
PARAMETERS = np.array([0.2, -0.3, 0.4, -0.7, 0.5])


def parameters(seed: int, *shape: int) -> np.ndarray:
  return np.random.default_rng(seed).normal(0, 0.5, (*shape, 5))


def image(shape, seed=0) -> np.ndarray:
  return np.random.default_rng(seed).random(shape)


@partial(jax.jit, static_argnames="size")
def read(picture, numbers, size):
  """Returns a glimpse [C, N, N] for five unconstrained parameters."""
  window = attention.window(numbers, size, *picture.shape[:2])
  return attention.read(picture, attention.filterbanks(window, window.intensity, size, *picture.shape[:2]))


@partial(jax.jit, static_argnames=("height", "width"))
def write(patch, numbers, height, width):
  size = patch.shape[-1]
  window = attention.window(numbers, size, height, width)
  return attention.write(patch, attention.filterbanks(window, 1 / window.intensity, size, height, width))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shape", SHAPES)
def test_window(shape, size):
  height, width, _ = shape
  where = attention.window(jnp.array(PARAMETERS), size, height, width)
  g_x, g_y, delta, variance, gamma = oracle.window(PARAMETERS, size, height, width)
  np.testing.assert_allclose([where.center_x, where.center_y], [g_x - 1, g_y - 1], rtol=1e-5)  # the paper counts from 1
  np.testing.assert_allclose([where.variance, where.intensity], [variance, gamma], rtol=1e-5)
  if size > 1:
    np.testing.assert_allclose(where.stride, delta, rtol=1e-5)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("center", "stride", "variance"), [(2.0, 1.0, 1.0), (-1.5, 2.3, 0.3), (7.2, 0.4, 6.0)])
def test_filterbank(center, stride, variance, size):
  actual = attention.filterbank(center, stride, variance, size, 6)
  np.testing.assert_allclose(actual, oracle.filterbank(center + 1, stride, variance, size, 6), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("center", "nearest"), [(-1e4, 0), (1e4, 5), (-40.0, 0), (40.0, 5)])
def test_a_window_off_the_image_sees_its_nearest_edge(center, nearest):
  rows = attention.filterbank(center, 1.0, 0.5, 3, 6)
  np.testing.assert_allclose(rows.sum(-1), 1, rtol=1e-6)
  np.testing.assert_allclose(rows[:, nearest], 1, rtol=1e-6)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shape", SHAPES)
def test_read(shape, size):
  for seed in range(3):
    numbers, picture = parameters(seed), image(shape)
    expected = oracle.read(picture, numbers, size)
    np.testing.assert_allclose(read(jnp.array(picture), jnp.array(numbers), size), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shape", SHAPES)
def test_write(shape, size):
  height, width, channels = shape
  for seed in range(3):
    numbers, patch = parameters(seed), image((channels, size, size))
    expected = oracle.write(patch, numbers, height, width)
    np.testing.assert_allclose(
      write(jnp.array(patch), jnp.array(numbers), height, width), expected, rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shape", SHAPES)
def test_write_is_the_adjoint_of_read(shape, size):
  """<read(x), w> = gamma^2 <x, write(w)>: reading multiplies by gamma, writing divides."""
  numbers = jnp.array(parameters(4))
  picture, patch = jnp.array(image(shape)), jnp.array(image((shape[-1], size, size), seed=1))
  gamma = np.exp(float(numbers[4]))
  there = (read(picture, numbers, size) * patch).sum()
  back = (picture * write(patch, numbers, *shape[:2])).sum()
  np.testing.assert_allclose(there, gamma**2 * back, rtol=1e-5)


def test_a_batch_equals_its_examples_one_by_one():
  numbers = jnp.array(parameters(5, 4))
  pictures, patches = jnp.array(image((4, 5, 7, 3))), jnp.array(image((4, 3, 3, 3)))
  one_read, one_write = partial(read, size=3), partial(write, height=5, width=7)
  chex.assert_trees_all_close(
    jax.vmap(one_read)(pictures, numbers),
    jnp.stack([one_read(*pair) for pair in zip(pictures, numbers, strict=True)]),
    rtol=1e-5,
  )
  chex.assert_trees_all_close(
    jax.vmap(one_write)(patches, numbers),
    jnp.stack([one_write(*pair) for pair in zip(patches, numbers, strict=True)]),
    rtol=1e-5,
  )


def central_differences(function, x, epsilon=1e-6):
  return np.array([(function(x + epsilon * e) - function(x - epsilon * e)) / (2 * epsilon) for e in np.eye(len(x))])


@pytest.mark.parametrize("shape", SHAPES)
def test_all_five_numbers_receive_their_gradient(shape):
  height, width, channels = shape
  picture, patch = image(shape), image((channels, 3, 3), seed=1)

  expected = central_differences(lambda p: (oracle.read(picture, p, 3) * patch).sum(), PARAMETERS)
  actual = jax.jit(jax.grad(lambda p: (read(jnp.array(picture), p, 3) * patch).sum()))(jnp.array(PARAMETERS))
  assert np.abs(expected).min() > 1e-3
  np.testing.assert_allclose(actual, expected, rtol=1e-3)

  expected = central_differences(lambda p: (oracle.write(patch, p, height, width) * picture).sum(), PARAMETERS)
  gradient = jax.jit(jax.grad(lambda p: (write(jnp.array(patch), p, height, width) * picture).sum()))
  actual = gradient(jnp.array(PARAMETERS))
  assert np.abs(expected).min() > 1e-3
  np.testing.assert_allclose(actual, expected, rtol=1e-3)


@pytest.mark.parametrize("size", [1, 2, 12])
def test_extreme_windows_stay_finite(size):
  """Including the corners of [-20, 20]^5, which a diverging head visits first."""
  corners = np.array(list(itertools.product([-20.0, 20.0], repeat=5)))
  numbers = jnp.array(np.concatenate([corners, np.random.default_rng(0).uniform(-20, 20, (200, 5))]))
  picture, patch = jnp.array(image((28, 28, 1))), jnp.array(image((1, size, size)))

  @jax.jit
  @jax.vmap
  def values_and_gradients(p):
    reading = jax.value_and_grad(lambda p: read(picture, p, size).sum())(p)
    writing = jax.value_and_grad(lambda p: (write(patch, p, 28, 28) * picture).sum())(p)
    return reading, writing

  chex.assert_tree_all_finite(values_and_gradients(numbers))


def test_a_centered_patch_is_centered():
  """The 0-based grid of the replaced project put this patch 5.75 pixels off the center at N = 5."""
  columns = jnp.broadcast_to(jnp.arange(28.0)[None, :, None], (28, 28, 1))
  small = jnp.array([0.0, 0.0, np.log(0.25), np.log(0.3), 0.0])
  along_x = read(columns, small, 5)[0]
  along_y = read(columns.transpose(1, 0, 2), small, 5)[0]
  stride = 0.3 * 27 / 4
  expected = 13.5 + stride * np.array([-2, -1, 0, 1, 2])
  np.testing.assert_allclose(along_x, np.tile(expected, (5, 1)), atol=1e-2)
  np.testing.assert_allclose(along_y, np.tile(expected[:, None], (1, 5)), atol=1e-2)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_centered_window_sees_a_mirrored_image_mirrored(shape):
  picture, centered = jnp.array(image(shape)), jnp.array([0.0, 0.0, 0.3, -0.5, 0.2])
  glimpse = read(picture, centered, 5)
  for axis in (0, 1):
    chex.assert_trees_all_close(read(jnp.flip(picture, axis), centered, 5), jnp.flip(glimpse, axis + 1), rtol=1e-4)
