"""Every model starts at the mean of the training images."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from latentjax import models
from latentjax.models.likelihoods import Bernoulli

MEAN = np.random.default_rng(0).uniform(0.02, 0.98, (9, 8, 1)).astype(np.float32)


def test_the_bernoulli_starts_at_the_mean_but_never_sure():
  mean = jnp.array([0.0, 0.3, 1.0]).reshape(3, 1, 1)
  np.testing.assert_allclose(Bernoulli().mean(Bernoulli().start(mean)).ravel(), [0.01, 0.3, 0.99], rtol=1e-5)


@pytest.mark.parametrize("likelihood", ["bernoulli", "discretized_logistic"])
@pytest.mark.parametrize("name", sorted(models.MODELS))
def test_images_whose_latents_say_nothing_are_the_mean(name, likelihood):
  """With all other weights at 0 nothing is left but what the model starts at."""
  config = importlib.import_module(f"configs.{name}").get_config().model
  config.likelihood = likelihood
  config.update({key: 2 for key in ("num_steps", "read_size", "write_size") if key in config})
  model = models.create_model(config, MEAN.shape)
  variables = model.init(jax.random.key(0), jnp.zeros((1, *MEAN.shape)), jax.random.key(1))
  blank = jax.tree.map(jnp.zeros_like, variables["params"])
  variables = {**variables, "params": model.init_to_data_mean(blank, jnp.array(MEAN), jnp.ones(1))}
  samples = model.apply(variables, jax.random.key(2), 3, method="sample")
  np.testing.assert_allclose(samples, np.broadcast_to(MEAN, samples.shape), atol=1e-5)
  if likelihood == "discretized_logistic":
    np.testing.assert_allclose(variables["params"]["log_scale"], np.log(np.sqrt(3) / np.pi), rtol=1e-5)
  else:
    assert "log_scale" not in variables["params"]


@pytest.mark.parametrize("name", sorted(models.MODELS))
def test_fresh_weights_leave_values_near_the_entropy_of_the_data(name):
  """That of a Gaussian of deviation 5 is 4.4 bits per value; with a head's weights as they are drawn it is over 15."""
  config = importlib.import_module(f"configs.{name}").get_config().model
  config.update({key: 2 for key in ("num_steps", "read_size", "write_size") if key in config})
  config.likelihood = "discretized_logistic"
  images = np.random.default_rng(0).normal([40, 120, 200], 5, (30, 6, 5, 3)).astype(np.uint8) / np.float32(255)
  model = models.create_model(config, images.shape[1:])
  variables = model.init(jax.random.key(0), jnp.array(images), jax.random.key(1))
  start = model.init_to_data_mean(variables["params"], jnp.array(images.mean(0)), jnp.array(images.std((0, 1, 2))))
  terms, _ = model.apply({**variables, "params": start}, jnp.array(images), jax.random.key(2), mutable=["batch_stats"])
  assert 4.3 < -float(terms.log_px.mean()) / (90 * np.log(2)) < 7.5
