"""The Gaussian against jax.scipy and quadrature."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from latentjax.models.distributions import Gaussian, standard_normal_log_prob

MEAN = np.array([[0.3, -1.2, 2.0], [0.0, 0.5, -0.5]])
LOG_STD = np.array([[0.0, -1.5, 0.7], [-3.0, 0.2, 1.1]])


def test_log_prob():
  noise = np.array([[0.1, -1.0, 2.0], [0.05, 0.4, -2.0]])
  q = Gaussian(jnp.array(MEAN), jnp.array(LOG_STD))
  value = MEAN + np.exp(LOG_STD) * noise
  expected = jax.scipy.stats.norm.logpdf(value, MEAN, np.exp(LOG_STD)).sum(-1)
  np.testing.assert_allclose(q.log_prob_of_sample(jnp.array(noise)), expected, rtol=1e-5)
  np.testing.assert_allclose(
    standard_normal_log_prob(jnp.array(value)), jax.scipy.stats.norm.logpdf(value).sum(-1), rtol=1e-5
  )


@pytest.mark.parametrize("log_std", [-90.0, -40.0, -20.0, -16.0, 0.0, 20.0, 40.0])
def test_densities_of_samples_at_any_scale(log_std):
  """The log density of a sample, and the log importance weight under a prior of about the same scale."""
  generator = np.random.default_rng(0)
  noise = generator.normal(size=(100, 4)).astype(np.float32)
  q, p = Gaussian(jnp.full(noise.shape, 0.7), jnp.full(noise.shape, log_std)), Gaussian(0.7, log_std + 0.3)
  exact = scipy.stats.norm.logpdf(noise.astype(np.float64)).sum(-1) - 4 * log_std
  np.testing.assert_allclose(q.log_prob_of_sample(jnp.array(noise)), exact, rtol=1e-6, atol=1e-5)
  relative = q.relative_to(p)
  log_weight = standard_normal_log_prob(relative.sample(jnp.array(noise))) - relative.log_prob_of_sample(noise)
  scaled = np.float64(np.float32(log_std) - np.float32(log_std + 0.3))  # as log_std + 0.3 is rounded
  under_p = scipy.stats.norm.logpdf(np.exp(scaled) * noise.astype(np.float64)).sum(-1)
  np.testing.assert_allclose(log_weight, under_p + 4 * scaled - scipy.stats.norm.logpdf(noise).sum(-1), atol=1e-4)


@pytest.mark.parametrize(
  ("log_stds", "mean", "log_std"),
  [((0, -45), 1.0, -45.0), ((-45, 0), 0.0, -45.0), ((45, 46), 0.1192, 44.9366), ((-60, -60), 0.5, -60.3466)],
)
def test_product_at_any_scale(log_stds, mean, log_std):
  product = Gaussian(jnp.array(0.0), jnp.array(float(log_stds[0]))).product(
    Gaussian(jnp.array(1.0), jnp.array(float(log_stds[1])))
  )
  assert float(product.mean) == pytest.approx(mean, abs=1e-4)
  assert float(product.log_std) == pytest.approx(log_std, abs=1e-4)


def on_a_grid(mean, std):
  """Returns points z that cover N(mean, std), and its log density there."""
  z = np.linspace(mean - 12 * std, mean + 12 * std, 20_001)
  return z, -0.5 * ((z - mean) / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi)


def test_kl_to_standard_is_its_integral():
  expected = np.zeros(2)
  for row, column in np.ndindex(MEAN.shape):
    z, log_q = on_a_grid(MEAN[row, column], np.exp(LOG_STD[row, column]))
    log_p = -0.5 * z**2 - 0.5 * np.log(2 * np.pi)
    expected[row] += np.trapezoid(np.exp(log_q) * (log_q - log_p), z)
  np.testing.assert_allclose(Gaussian(jnp.array(MEAN), jnp.array(LOG_STD)).kl_to_standard(), expected, rtol=1e-5)


def test_kl_between_gaussians_is_its_integral():
  other_mean, other_log_std = MEAN[::-1] + 0.4, 0.5 * LOG_STD[::-1]
  expected = np.zeros(2)
  for row, column in np.ndindex(MEAN.shape):
    z, log_q = on_a_grid(MEAN[row, column], np.exp(LOG_STD[row, column]))
    std = np.exp(other_log_std[row, column])
    log_p = -0.5 * ((z - other_mean[row, column]) / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi)
    expected[row] += np.trapezoid(np.exp(log_q) * (log_q - log_p), z)
  one, other = Gaussian(jnp.array(MEAN), jnp.array(LOG_STD)), Gaussian(jnp.array(other_mean), jnp.array(other_log_std))
  np.testing.assert_allclose(one.relative_to(other).kl_to_standard(), expected, rtol=1e-5)


def test_units_add_up():
  """The KL over units, and samples in units of another Gaussian."""
  one, other = Gaussian(jnp.array(MEAN), jnp.array(LOG_STD)), Gaussian(jnp.array(MEAN[::-1]), jnp.array(LOG_STD[::-1]))
  single = [
    [Gaussian(jnp.array([m]), jnp.array([s])) for m, s in zip(*row, strict=True)]
    for row in zip(MEAN, LOG_STD, strict=True)
  ]
  np.testing.assert_allclose(one.kl_per_unit(), [[unit.kl_to_standard() for unit in row] for row in single], rtol=1e-5)
  noise = jnp.array(MEAN - 0.7)
  expected = (MEAN + np.exp(LOG_STD) * (MEAN - 0.7) - MEAN[::-1]) / np.exp(LOG_STD[::-1])
  np.testing.assert_allclose(one.relative_to(other).sample(noise), expected, rtol=1e-5, atol=1e-6)


def test_product_is_the_normalized_product_of_densities():
  one, other = Gaussian(jnp.array(0.3), jnp.array(-0.5)), Gaussian(jnp.array(-1.0), jnp.array(0.4))
  z = np.linspace(-8, 8, 20_001)
  density = np.exp(sum(-0.5 * ((z - float(g.mean)) / np.exp(float(g.log_std))) ** 2 for g in (one, other)))
  density /= np.trapezoid(density, z)
  mean = np.trapezoid(density * z, z)
  product = one.product(other)
  assert float(product.mean) == pytest.approx(mean, rel=1e-5)
  assert float(jnp.exp(2 * product.log_std)) == pytest.approx(np.trapezoid(density * (z - mean) ** 2, z), rel=1e-5)


def test_kl_of_the_standard_normal_is_zero():
  np.testing.assert_array_equal(Gaussian(jnp.zeros((2, 3)), jnp.zeros((2, 3))).kl_to_standard(), np.zeros(2))


def test_samples_have_mean_and_standard_deviation():
  count = 40_000
  noise = np.random.default_rng(0).normal(size=(count, *MEAN.shape))
  z = np.asarray(jax.vmap(Gaussian(jnp.array(MEAN), jnp.array(LOG_STD)).sample)(jnp.array(noise)), np.float64)
  std = np.exp(LOG_STD)
  assert (np.abs(z.mean(0) - MEAN) < 5 * std / np.sqrt(count)).all()
  assert (np.abs(z.std(0) / std - 1) < 5 / np.sqrt(2 * count)).all()
