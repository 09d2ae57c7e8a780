"""Losses against values computed by hand, and the importance-weighted bound against numerical integration."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from latentjax.models.distributions import Gaussian, standard_normal_log_prob
from latentjax.models.elbo import (
  ELBOTerms,
  kl_weight_schedule,
  log_mean_exp,
  negative_elbo,
  negative_importance_bound,
  weighted_loss,
)
from latentjax.models.likelihoods import Bernoulli

WEIGHTS, BIASES = np.array([1.5, -2.0, 0.7]), np.array([0.2, -0.4, 0.1])  # of p(x|z) = Bernoulli(sigmoid(w z + b))
IMAGE = np.array([1.0, 0.0, 1.0])
POSTERIOR = Gaussian(jnp.array([0.3]), jnp.array([-0.2]))


@partial(jax.jit, static_argnums=(1, 2))
def sampled(key: jax.Array, count: int, batch: int = 1) -> ELBOTerms:
  """Terms of a model with one latent and three pixels: `count` samples of one posterior for `batch` equal images."""
  q = Gaussian(*(jnp.broadcast_to(value, (count, batch, 1)) for value in (POSTERIOR.mean, POSTERIOR.log_std)))
  noise = jax.random.normal(key, (count, batch, 1))
  z = q.sample(noise)
  logits = (z * WEIGHTS[None, None] + BIASES[None, None]).reshape(count, batch, 1, 3, 1)
  return ELBOTerms(
    mean=Bernoulli().mean(logits),
    log_px=Bernoulli().log_prob(logits, jnp.broadcast_to(IMAGE[None, None, None, :, None], logits.shape)),
    kl=q.kl_to_standard()[..., None],
    log_pz=standard_normal_log_prob(z)[..., None],
    log_qz=q.log_prob_of_sample(noise)[..., None],
  )


def integrate(function) -> float:
  """Integral over z by a fine grid, in float64."""
  z = np.linspace(-12, 12, 200_001)
  return float(np.sum(function(z)) * (z[1] - z[0]))


def likelihood(z: np.ndarray) -> np.ndarray:
  p = 1 / (1 + np.exp(-(z[:, None] * WEIGHTS + BIASES)))
  return np.prod(np.where(IMAGE == 1, p, 1 - p), axis=1)


def normal(z: np.ndarray, mean: float, std: float) -> np.ndarray:
  return np.exp(-0.5 * ((z - mean) / std) ** 2) / (std * np.sqrt(2 * np.pi))


LOG_PX = np.log(integrate(lambda z: likelihood(z) * normal(z, 0, 1)))
MEAN, STD = 0.3, np.exp(-0.2)
ELBO = integrate(lambda z: normal(z, MEAN, STD) * np.log(likelihood(z) * normal(z, 0, 1) / normal(z, MEAN, STD)))


def test_importance_bound_reaches_the_integral():
  bounds = {
    count: -float(negative_importance_bound(sampled(jax.random.key(count), count, 100_000 // count), 1.0))
    for count in (1, 5, 50)
  }
  assert bounds[1] == pytest.approx(ELBO, abs=0.01)  # K = 1 is the ELBO
  assert ELBO < bounds[5] < bounds[50] < LOG_PX + 0.005
  many = -negative_importance_bound(sampled(jax.random.key(0), 100_000), 1.0)
  assert float(many) == pytest.approx(LOG_PX, abs=2e-3)


def test_elbo_of_terms_is_the_integral():
  assert float(sampled(jax.random.key(0), 200_000).elbo.mean()) == pytest.approx(ELBO, abs=5e-3)


def test_beta_weighs_the_latents_of_the_importance_bound():
  terms = sampled(jax.random.key(0), 7)
  without = -np.log(np.mean(np.exp(np.asarray(terms.log_px, np.float64))))
  assert float(negative_importance_bound(terms, 0.0)) == pytest.approx(without, rel=1e-5)


def by_hand(kl: list[list[float]]) -> ELBOTerms:
  kl = jnp.array(kl)
  return ELBOTerms(jnp.zeros((2, 1, 1, 1)), jnp.array([-10.0, -20.0]), kl, jnp.zeros_like(kl), jnp.zeros_like(kl))


def test_negative_elbo_by_hand():
  terms = by_hand([[1.0, 0.1], [3.0, 0.3]])  # group means 2 and 0.2
  assert float(negative_elbo(terms, 1.0, 0.0)) == pytest.approx(15 + 2.2)
  assert float(negative_elbo(terms, 0.5, 0.0)) == pytest.approx(15 + 1.1)
  assert float(negative_elbo(terms, 4.0, 0.0)) == pytest.approx(15 + 8.8)
  assert float(negative_elbo(terms, 1.0, 0.5)) == pytest.approx(15 + 2.5)  # the second group costs 0.5 either way
  np.testing.assert_allclose(terms.elbo, [-11.1, -23.3], rtol=1e-6)


def test_free_bits_give_no_gradient_to_a_group_below_them():
  gradient = jax.grad(lambda kl: negative_elbo(by_hand([[1.0, 0.1], [3.0, 0.3]]).replace(kl=kl), 1.0, 0.5))
  np.testing.assert_allclose(gradient(jnp.array([[1.0, 0.1], [3.0, 0.3]])), [[0.5, 0.0], [0.5, 0.0]])


def test_log_mean_exp_does_not_overflow():
  np.testing.assert_allclose(log_mean_exp(jnp.array([[-1000.0, 1000.0], [-1000.0, 1000.0]])), [-1000.0, 1000.0])
  np.testing.assert_allclose(log_mean_exp(jnp.array([0.0, -1e9])), -np.log(2), rtol=1e-6)


def test_warm_up_is_linear_and_then_stays():
  betas = [float(kl_weight_schedule(2.0, jnp.int32(step), 4)) for step in (0, 1, 2, 4, 100)]
  assert betas == [0.0, 0.5, 1.0, 2.0, 2.0]
  assert float(kl_weight_schedule(2.0, jnp.int32(0), 0)) == 2.0


def test_the_same_loss_of_a_whole_split_and_of_several_seeds():
  """Of NumPy arrays in float64, as passed by `validate`."""
  reconstruction, kl = np.array([100.0, 90.0]), np.array([[2.0, 5.0], [4.0, -1e-9]])
  np.testing.assert_allclose(weighted_loss(reconstruction, kl, 0.5, 0.0), [103.5, 92], rtol=1e-9)
  np.testing.assert_allclose(weighted_loss(reconstruction, kl, 0.5, 3.0), [104, 93.5], rtol=1e-15)
  assert weighted_loss(reconstruction, kl, 0.5, 3.0).dtype == np.float64
