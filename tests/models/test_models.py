"""Properties that hold for every model: initialization at the data's mean, and KL per unit."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from latentjax import models
from latentjax.config.schema import LIKELIHOODS_OF_LEVELS, field_keys
from latentjax.inference.explore import page
from latentjax.models.likelihoods import LIKELIHOODS

SHAPE = (10, 8, 1)
MEAN = np.random.default_rng(0).uniform(0.02, 0.98, SHAPE).astype(np.float32)


def create(name: str, image_shape=SHAPE, likelihood: str = "bernoulli"):
  return models.create_model(tiny.create_config(name, {"model.likelihood": likelihood}).model, image_shape)


ALL = [
  (name, likelihood)
  for name, model in sorted(models.MODELS.items())
  for likelihood in field_keys(model)["likelihood"].constraint.choices
]


def test_every_likelihood_is_listed_where_it_matters():
  assert LIKELIHOODS.keys() == {"bernoulli", *LIKELIHOODS_OF_LEVELS} == set(page.LIKELIHOODS)
  assert [name for name, likelihood in ALL if likelihood == "logistic_mixture"] == ["conv_ladder", "ladder_vae", "vae"]


@pytest.mark.parametrize(("name", "likelihood"), ALL)
def test_samples_of_a_new_model_are_the_mean_image(name, likelihood):
  """With all other weights at 0, the decoder outputs what `init_to_data_mean` sets."""
  model = create(name, likelihood=likelihood)
  variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, *SHAPE)), jax.random.key(1))
  blank = jax.tree.map(jnp.zeros_like, variables["params"])
  variables = {**variables, "params": model.init_to_data_mean(blank, jnp.array(MEAN), jnp.ones(1))}
  samples = jax.jit(lambda variables: model.apply(variables, jax.random.key(2), 3, method="sample"))(variables)
  np.testing.assert_allclose(samples, np.broadcast_to(MEAN, samples.shape), atol=1e-5)
  if likelihood in LIKELIHOODS_OF_LEVELS:
    np.testing.assert_allclose(variables["params"]["log_scale"], np.log(np.sqrt(3) / np.pi), rtol=1e-5)
  else:
    assert "log_scale" not in variables["params"]


@pytest.mark.parametrize(("name", "likelihood"), [pair for pair in ALL if pair[1] != "bernoulli"])
def test_a_new_model_is_near_the_entropy_of_the_data(name, likelihood):
  """A Gaussian of deviation 5 has 4.4 bits per value; unscaled output weights would cost over 15."""
  images = np.random.default_rng(0).normal([40, 120, 200], 5, (30, 6, 5, 3)).astype(np.uint8) / np.float32(255)
  model = create(name, images.shape[1:], likelihood)
  variables = jax.jit(model.init)(jax.random.key(0), jnp.array(images), jax.random.key(1))
  params = model.init_to_data_mean(variables["params"], jnp.array(images.mean(0)), jnp.array(images.std((0, 1, 2))))
  apply = jax.jit(partial(model.apply, mutable=["batch_stats"]))
  terms, _ = apply({**variables, "params": params}, images, jax.random.key(2))
  assert 4.3 < -float(terms.log_px.mean()) / (90 * np.log(2)) < 7.5


@pytest.mark.parametrize("name", sorted(models.MODELS))
def test_kl_per_unit_adds_up_to_the_terms_of_the_same_key(name):
  model = create(name)
  images = (np.random.default_rng(0).random((3, *SHAPE)) < 0.5).astype(np.float32)

  def both(key):
    init_key, sample_key, key = jax.random.split(key, 3)
    variables = jax.jit(model.init)(init_key, images, sample_key)
    leaves, structure = jax.tree.flatten(variables["params"])
    noise = np.random.default_rng(1)
    params = structure.unflatten([leaf + 0.3 * noise.random(leaf.shape).astype(np.float32) for leaf in leaves])
    variables = {**variables, "params": params}
    return model.apply(variables, images, key).kl, model.apply(variables, images, key, method="posteriors")

  with jax.debug_key_reuse(False):  # reuse is intended
    kl, posteriors = jax.jit(both)(jax.random.key(0))
  units = [posterior.kl_per_unit() for posterior in posteriors]
  assert kl.shape == (3, len(units))
  np.testing.assert_allclose(jnp.stack([unit.sum(-1) for unit in units], axis=-1), kl, rtol=1e-4, atol=1e-5)
  assert min(float(unit.std()) for unit in units) > 0
