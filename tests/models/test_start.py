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
  model = models.create(config, MEAN.shape)
  variables = model.init(jax.random.key(0), jnp.zeros((1, *MEAN.shape)), jax.random.key(1))
  blank = jax.tree.map(jnp.zeros_like, variables["params"])
  variables = {**variables, "params": model.start_at(blank, jnp.array(MEAN), jnp.ones(1))}
  samples = model.apply(variables, jax.random.key(2), 3, method="sample")
  np.testing.assert_allclose(samples, np.broadcast_to(MEAN, samples.shape), atol=1e-5)
  if likelihood == "discretized_logistic":
    np.testing.assert_allclose(variables["params"]["log_scale"], np.log(np.sqrt(3) / np.pi), rtol=1e-5)
  else:
    assert "log_scale" not in variables["params"]
