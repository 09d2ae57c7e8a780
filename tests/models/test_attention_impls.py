"""Every implementation of attention against float64 loops and JAX's own gradients, and their building blocks."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest

from latentjax.models.draw import attention
from latentjax.models.draw.attention import REFERENCE
from latentjax.models.draw.attention_cpu import combination_by_product, product, row_sums_by_product, transposed_copy
from latentjax.models.draw.attention_filters import combination, gaussian_filters, row_sums
from latentjax.models.draw.plan import ATTENTION_IMPLS

SHAPES = [(6, 5, 1), (5, 7, 3)]
SIZES = [(2, 3), (2, 6)]  # of the read and the write window: with and without moments on a GPU
BATCH, ROWS, INNER, COLUMNS = 2, 4, 5, 3


def through(impl, shape, sizes):
  """Returns a function to (glimpses, images) of a batch: read through one window, written through another."""
  height, width, _ = shape

  @jax.vmap
  def read_and_write(image, error, patch, *parameters):
    windows = [attention.window(p, size, height, width) for p, size in zip(parameters, sizes, strict=True)]
    gains = windows[0].intensity, 1 / windows[1].intensity
    reading, writing = impl.filterbanks(windows, gains, sizes, height, width)
    return impl.read(image, error, reading), impl.write(patch, writing)

  return read_and_write


def arguments(shape, sizes):
  """Returns image, error, patch, and the parameters of both windows."""
  generator = np.random.default_rng(0)
  images = generator.normal(size=(2, BATCH, *shape))
  patch = generator.normal(size=(BATCH, shape[-1], sizes[1], sizes[1]))
  return [jnp.array(x, jnp.float32) for x in (*images, patch, *generator.normal(0, 0.5, (2, BATCH, 5)))]


@pytest.mark.parametrize("impl", [REFERENCE, *ATTENTION_IMPLS.values()], ids=["reference", *ATTENTION_IMPLS])
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("shape", SHAPES)
def test_values_equal_the_paper(impl, shape, sizes):
  given = arguments(shape, sizes)
  glimpses, images = jax.jit(through(impl, shape, sizes))(*given)
  for b, (image, error, patch, where, there) in enumerate(zip(*map(np.asarray, given), strict=True)):
    expected = [oracle.read(picture, where, sizes[0]).ravel() for picture in (image, error)]
    np.testing.assert_allclose(glimpses[b], np.concatenate(expected), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(images[b], oracle.write(patch, there, *shape[:2]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("impl", ATTENTION_IMPLS)
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_equal_the_reference(impl, shape, sizes):
  """With respect to the images, the patch, and all parameters of both windows."""
  given = arguments(shape, sizes)

  def loss(impl, *given):
    return sum(jnp.sin(output).sum() for output in through(impl, shape, sizes)(*given))

  actual, expected = (
    jax.jit(jax.grad(lambda *x, each=each: loss(each, *x), argnums=tuple(range(5))))(*given)
    for each in (ATTENTION_IMPLS[impl], REFERENCE)
  )
  # Sums of terms around 1, some of which cancel: entries near zero have the rounding error of the terms.
  chex.assert_trees_all_close(actual, expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("row_sums", [row_sums, row_sums_by_product])
def test_gradient_of_filters_equals_that_of_a_softmax(row_sums):
  """For axes of two lengths, and filters that are narrow, wide and off the image."""
  extents = (7, 7, 7, 5, 5)
  means, variances, sums = (
    jnp.array(numbers, jnp.float32)
    for numbers in ([-2.3, 0.4, 3.1, 4.4, 9.0], [0.3, 2.0, 0.05, 1.0, 6.0], [1.0, 2.0, 0.5, 1.0, 3.0])
  )
  target = jnp.array(np.random.default_rng(0).normal(size=(5, 7)), jnp.float32)

  def own(means, variances, sums):
    return gaussian_filters(means, variances, sums, extents, row_sums)

  def plain(means, variances, sums):
    pixels = np.arange(7)[None]
    exponents = -0.5 * jnp.square(pixels - means[:, None]) / variances[:, None]
    inside = pixels < np.array(extents)[:, None]
    return sums[:, None] * jax.nn.softmax(jnp.where(inside, exponents, -jnp.inf), axis=-1)

  actual, expected = (
    jax.jit(jax.value_and_grad(lambda *x, f=f: jnp.square(f(*x) - target).sum(), argnums=(0, 1, 2)))(
      means, variances, sums
    )
    for f in (own, plain)
  )
  chex.assert_trees_all_close(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("transpose", [False, True])
def test_product_is_matmul(transpose):
  generator = np.random.default_rng(0)
  x, target = (jnp.array(generator.normal(size=(BATCH, ROWS, width)), jnp.float32) for width in (INNER, COLUMNS))
  y = jnp.array(generator.normal(size=(BATCH, *((COLUMNS, INNER) if transpose else (INNER, COLUMNS)))), jnp.float32)

  def loss(multiply, x, y):
    return jnp.square(multiply(x, y) - target).sum()

  def own(x, y):
    return jax.vmap(lambda x, y: product(x, y, transpose))(x, y)

  def plain(x, y):
    return x @ (y.mT if transpose else y)

  actual, expected = (
    jax.jit(jax.value_and_grad(lambda x, y, f=f: loss(f, x, y), argnums=(0, 1)))(x, y) for f in (own, plain)
  )
  chex.assert_trees_all_close(actual, expected, rtol=1e-5)


def test_a_transposed_copy():
  x = jnp.array(np.random.default_rng(0).normal(size=(BATCH, ROWS, INNER)), jnp.float32)
  np.testing.assert_array_equal(jax.jit(jax.vmap(transposed_copy))(x), x.mT)


@pytest.mark.parametrize("sums", [row_sums, row_sums_by_product])
def test_row_sums(sums):
  x = jnp.array(np.random.default_rng(0).normal(size=(BATCH, ROWS, INNER)), jnp.float32)
  chex.assert_trees_all_close(jax.jit(jax.vmap(sums))(x), x.sum(-1), rtol=1e-5)


@pytest.mark.parametrize("combine", [combination, combination_by_product])
def test_combination_is_a_weighted_sum_of_rows(combine):
  generator = np.random.default_rng(0)
  values, rows = jnp.array(generator.normal(size=(BATCH, ROWS)), jnp.float32), generator.normal(size=(ROWS + 1, INNER))

  def loss(weighted, values):
    return jnp.square(weighted(values)).sum()

  def own(values):
    return jax.vmap(lambda each: combine([*each, 1.0], rows))(values)

  def plain(values):
    return jnp.append(values, jnp.ones((BATCH, 1)), axis=1) @ rows.astype(np.float32)

  actual, expected = (jax.jit(jax.value_and_grad(lambda v, f=f: loss(f, v)))(values) for f in (own, plain))
  chex.assert_trees_all_close(actual, expected, rtol=1e-5)


def test_sums_by_product_ignore_the_matmul_precision():
  x, rows = jnp.ones((ROWS, INNER)), np.ones((2, INNER))
  with jax.default_matmul_precision("BF16_BF16_F32"):
    lowered = [
      jax.jit(jax.grad(lambda x: jnp.square(row_sums_by_product(x)).sum())).lower(x),
      jax.jit(jax.grad(lambda values: jnp.square(combination_by_product([*values], rows)).sum())).lower(x[0, :2]),
    ]
  for each in lowered:
    assert "dot_general" in each.as_text()
    assert "bf16" not in each.as_text()
