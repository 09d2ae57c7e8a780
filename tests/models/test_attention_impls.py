"""Every layout of attention against float64 loops of the paper's equations, and its gradients against JAX's own."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest

from latentjax.models.draw import attention, attention_cpu
from latentjax.models.draw.attention import REFERENCE
from latentjax.models.draw.attention_filters import gaussian_filters, row_sums
from latentjax.models.draw.plan import ATTENTION_IMPLS

SHAPES = [(6, 5, 1), (5, 7, 3)]
SIZES = [(2, 3), (2, 6)]  # of the windows that read and write: both small, and not
BATCH = 2


def through(layout, shape, sizes):
  """(glimpses, images) of a batch: read through one window, written through another."""
  height, width, _ = shape

  @jax.vmap
  def read_and_write(image, error, patch, *parameters):
    windows = [attention.window(five, size, height, width) for five, size in zip(parameters, sizes, strict=True)]
    gains = windows[0].intensity, 1 / windows[1].intensity
    reading, writing = layout.filterbanks(windows, gains, sizes, height, width)
    return layout.read(image, error, reading), layout.write(patch, writing)

  return read_and_write


def arguments(shape, sizes):
  """image, error, patch, both windows' parameters."""
  generator = np.random.default_rng(0)
  images = generator.normal(size=(2, BATCH, *shape))
  patch = generator.normal(size=(BATCH, shape[-1], sizes[1], sizes[1]))
  return [jnp.array(x, jnp.float32) for x in (*images, patch, *generator.normal(0, 0.5, (2, BATCH, 5)))]


@pytest.mark.parametrize("layout", [REFERENCE, *ATTENTION_IMPLS.values()], ids=["reference", *ATTENTION_IMPLS])
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("shape", SHAPES)
def test_reads_and_writes_as_the_paper_does(layout, shape, sizes):
  given = arguments(shape, sizes)
  glimpses, images = jax.jit(through(layout, shape, sizes))(*given)
  for b, (image, error, patch, where, there) in enumerate(zip(*map(np.asarray, given), strict=True)):
    expected = [oracle.read(picture, where, sizes[0]).ravel() for picture in (image, error)]
    np.testing.assert_allclose(glimpses[b], np.concatenate(expected), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(images[b], oracle.write(patch, there, *shape[:2]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", ATTENTION_IMPLS)
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_are_those_of_the_reference(layout, shape, sizes):
  """To the images, the patch, and all numbers of both windows."""
  given = arguments(shape, sizes)

  def loss(layout, *given):
    return sum(jnp.sin(made).sum() for made in through(layout, shape, sizes)(*given))

  actual, expected = (
    jax.jit(jax.grad(lambda *x, each=each: loss(each, *x), argnums=tuple(range(5))))(*given)
    for each in (ATTENTION_IMPLS[layout], REFERENCE)
  )
  # Sums of terms around 1, some of which cancel: an entry near zero is right to their rounding.
  chex.assert_trees_all_close(actual, expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("row_sums", [row_sums, attention_cpu.row_sums_by_product])
def test_the_gradient_of_filters_is_that_of_a_softmax(row_sums):
  """As JAX differentiates it by itself, for axes of two lengths and filters narrow, wide and off the image."""
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
