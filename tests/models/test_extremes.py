"""Pure functions on inputs that a diverging network may produce: finite values and gradients."""

from functools import cache

import chex
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings

from latentjax.models.distributions import Gaussian
from latentjax.models.draw import attention
from latentjax.models.draw.attention import REFERENCE
from latentjax.models.draw.plan import ATTENTION_IMPLS
from latentjax.models.likelihoods import Bernoulli, DiscretizedLogistic, LogisticMixture

SHAPE = (9, 7, 2)
thoroughly = settings(max_examples=200, deadline=None, derandomize=True, database=None)


def number(bound: float):
  return st.floats(-bound, bound, width=32)


ALL_IMPLS = {"reference": REFERENCE, **ATTENTION_IMPLS}


@cache
def through_a_window(impl: str, size: int):
  """Returns a jitted function: parameters -> (filter sums, values and gradients of reading and writing)."""
  generator = np.random.default_rng(0)
  picture, patch = jnp.array(generator.random(SHAPE)), jnp.array(generator.random((SHAPE[2], size, size)))
  filterbanks, read, write = ALL_IMPLS[impl]

  def through(numbers, invert):
    window = attention.window(numbers, size, *SHAPE[:2])
    return filterbanks([window], [1 / window.intensity if invert else jnp.ones(())], [size], *SHAPE[:2])[0]

  def reading(numbers):
    return read(picture, picture, through(numbers, False)).sum()

  def writing(numbers):
    return (write(patch, through(numbers, True)) * picture).sum()

  def both(numbers):
    filters = through(numbers, False)
    sums = filters.vertical.sum(-1), filters.horizontal.sum(-1)
    return sums, [jax.value_and_grad(function)(numbers) for function in (reading, writing)]

  return jax.jit(both)


@pytest.mark.parametrize("impl", ALL_IMPLS)
@pytest.mark.parametrize("size", [1, 2, 5])
@thoroughly
@given(numbers=st.lists(number(20), min_size=5, max_size=5))
@example(numbers=[20.0, -20.0, -20.0, 20.0, -20.0])
@example(numbers=[-20.0, 0.0, 20.0, -20.0, 20.0])
def test_no_window_breaks_a_filter(impl, size, numbers):
  sums, outcomes = through_a_window(impl, size)(jnp.array(numbers))
  for each in sums:
    np.testing.assert_allclose(each, 1, rtol=1e-5)
  chex.assert_tree_all_finite(outcomes)


@jax.jit
def compare(q: Gaussian, p: Gaussian):
  return jax.value_and_grad(lambda q, p: q.relative_to(p).kl_to_standard(), argnums=(0, 1))(q, p)


@thoroughly
@given(numbers=st.lists(number(20), min_size=4, max_size=4))
def test_the_kl_is_finite_and_not_negative(numbers):
  q, p = Gaussian(*jnp.array(numbers[:2])[:, None]), Gaussian(*jnp.array(numbers[2:])[:, None])
  value, gradients = compare(q, p)
  chex.assert_tree_all_finite((value, gradients))
  assert value >= -1e-5 * (1 + abs(numbers[1] - numbers[3]))


@thoroughly
@given(numbers=st.lists(number(80), min_size=4, max_size=4))
def test_product_of_gaussians_is_narrower_than_either_and_lies_between(numbers):
  one, other = Gaussian(*jnp.array(numbers[:2])[:, None]), Gaussian(*jnp.array(numbers[2:])[:, None])
  product = one.product(other)
  slack = 1e-4 * (1 + max(map(abs, numbers)))
  assert product.log_std <= min(one.log_std, other.log_std) + slack
  assert min(one.mean, other.mean) - slack <= product.mean <= max(one.mean, other.mean) + slack


@jax.jit
def likelihood(logit, pixel):
  return jax.value_and_grad(lambda logit: Bernoulli().log_prob(logit.reshape(1, 1, 1), pixel.reshape(1, 1, 1)))(logit)


@thoroughly
@given(logit=number(1e6), pixel=st.sampled_from([0.0, 1.0]))
def test_a_binary_pixels_log_probability_is_finite_and_not_positive(logit, pixel):
  value, gradient = likelihood(jnp.array([logit]), jnp.array(pixel))
  chex.assert_tree_all_finite((value, gradient))
  assert value <= 0
  assert abs(gradient[0]) <= 1


@jax.jit
def levels(number, log_scale, pixel):
  def log_prob(number, log_scale):
    return DiscretizedLogistic().log_prob(number.reshape(1, 1, 1, 1), pixel.reshape(1, 1, 1, 1), log_scale)[0]

  return jax.value_and_grad(log_prob, argnums=(0, 1))(number, log_scale)


@thoroughly
@given(number=number(1e6), log_scale=number(1e4), level=st.sampled_from([0, 1, 128, 254, 255]))
def test_a_channel_values_log_probability_is_finite_and_not_positive(number, log_scale, level):
  value, gradients = levels(jnp.array([number]), jnp.array([log_scale]), jnp.array([level / 255]))
  chex.assert_tree_all_finite((value, gradients))
  assert value <= 0


@jax.jit
def mixture(params, log_scale, color):
  def log_prob(params, log_scale):
    return LogisticMixture(2).log_prob(params.reshape(1, 1, 1, -1), color.reshape(1, 1, 1, -1), log_scale)[0]

  return jax.value_and_grad(log_prob, argnums=(0, 1))(params, log_scale)


@thoroughly
@given(
  params=st.lists(number(1e6), min_size=20, max_size=20),
  log_scale=st.lists(number(1e4), min_size=3, max_size=3),
  color=st.lists(st.sampled_from([0, 1, 128, 254, 255]), min_size=3, max_size=3),
)
def test_a_colors_log_probability_is_finite_and_not_positive(params, log_scale, color):
  value, gradients = mixture(jnp.array(params), jnp.array(log_scale), jnp.array(color) / 255)
  chex.assert_tree_all_finite((value, gradients))
  assert value <= 1e-5  # rounding of logsumexp
