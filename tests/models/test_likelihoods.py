"""The Bernoulli against a loop over pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest

from latentjax.models.likelihoods import Bernoulli


@pytest.mark.parametrize("shape", [(2, 3, 4, 1), (2, 3, 2, 3)])
def test_bernoulli_log_prob(shape):
  generator = np.random.default_rng(0)
  logits = generator.normal(0, 3, shape)
  for images in (generator.integers(0, 2, shape).astype(np.float32), generator.random(shape)):  # binary, then grey
    expected = [oracle.bernoulli_log_prob(*pair) for pair in zip(logits, images, strict=True)]
    np.testing.assert_allclose(Bernoulli().log_prob(jnp.array(logits), jnp.array(images)), expected, rtol=1e-5)


def test_bernoulli_log_prob_of_huge_logits():
  """Right for certain costs nothing, wrong for certain costs the logit; no infinity and no NaN on the way."""
  logits = jnp.array([1e4, -1e4, 1e4, -1e4]).reshape(4, 1, 1, 1)
  images = jnp.array([1.0, 0.0, 0.0, 1.0]).reshape(4, 1, 1, 1)
  np.testing.assert_allclose(Bernoulli().log_prob(logits, images), [0, 0, -1e4, -1e4])
  gradient = jax.grad(lambda logits: Bernoulli().log_prob(logits, images).sum())(logits)
  np.testing.assert_allclose(gradient.ravel(), [0, 0, -1, 1], atol=1e-6)


def test_gradient_is_pixel_minus_probability_also_at_zero():
  """A canvas that no window has met is exactly 0, where the parts of softplus have kinks."""
  logits = jnp.array([-1.5, -0.0, 0.0, 2.0, 0.0]).reshape(1, 5, 1, 1)
  images = jnp.array([1.0, 1.0, 0.0, 0.0, 0.25]).reshape(1, 5, 1, 1)
  gradient = jax.grad(lambda logits: Bernoulli().log_prob(logits, images).sum())(logits)
  np.testing.assert_allclose(gradient, images - jax.nn.sigmoid(logits), atol=1e-6)
