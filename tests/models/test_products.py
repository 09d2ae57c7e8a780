"""Products and sums of small matrices against JAX's own, values and gradients."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from latentjax.models.draw.attention_cpu import combination_by_product, product, row_sums_by_product, transposed_copy
from latentjax.models.draw.attention_filters import combination, row_sums

BATCH, ROWS, INNER, COLUMNS = 3, 4, 5, 2


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


def test_products_that_stand_for_sums_ignore_the_precision_of_products():
  x, rows = jnp.ones((ROWS, INNER)), np.ones((2, INNER))
  with jax.default_matmul_precision("BF16_BF16_F32"):
    lowered = [
      jax.jit(jax.grad(lambda x: jnp.square(row_sums_by_product(x)).sum())).lower(x),
      jax.jit(jax.grad(lambda values: jnp.square(combination_by_product([*values], rows)).sum())).lower(x[0, :2]),
    ]
  for each in lowered:
    assert "dot_general" in each.as_text()
    assert "bf16" not in each.as_text()
