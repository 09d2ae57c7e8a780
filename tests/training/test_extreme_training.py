"""Extreme configs and images: they train."""

import importlib

import jax
import numpy as np
import pytest

from latentjax import models
from latentjax.training.compile import create_train_fns
from latentjax.training.metrics import NO_DIVERGENCE

SHAPE, COUNT = (6, 5, 1), 8
TINY = {
  "draw": {"num_steps": 256, "remat": "sqrt", "hidden_dim": 4, "latent_dim": 2, "read_size": 2, "write_size": 3},
  "ladder_vae": {"hidden_dims": (6, 5), "latent_dims": (3, 2)},
}


@pytest.mark.parametrize(("name", "variant"), [("draw", "filterbank"), ("ladder_vae", "default")])
def test_empty_images_train(name, variant):
  """All black and all white, ten times the learning rate, T = 256, products in bfloat16."""
  config = importlib.import_module(f"configs.{name}").get_config(variant)
  config.model.update(TINY[name])
  config.precision = "bfloat16"
  config.train.update({"batch_size": COUNT, "learning_rate": 10 * config.train.learning_rate, "kl_warmup_epochs": 0.0})
  steps = create_train_fns(config, models.create_model(config.model, SHAPE), COUNT)
  for value in (0, 255):
    images = np.full((COUNT, *SHAPE), value, np.uint8)
    order_key, noise_key, init_key = jax.random.split(jax.random.key(value), 3)
    state, order = steps.init(init_key), steps.order(order_key, 0)
    state, first = steps.train(state, images, order, noise_key, 1)
    state, rest = steps.train(state, images, order, noise_key, 40)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.device_get(state.params)))
    assert rest.diverged_at == NO_DIVERGENCE
    assert rest.mean()["elbo"] > first.mean()["elbo"]
