"""What validation says; tests/modes/test_train.py has the loop itself, and what stops it."""

import importlib

import jax.numpy as jnp
import pytest

from latentjax.inference import evaluation
from latentjax.runtime import rng
from latentjax.training.experiment import create_experiment
from latentjax.training.trainer import validate


@pytest.mark.parametrize(
  "changes",
  [
    {},
    {"train.free_bits": 2.0},
    {"train.iwae_samples": 50},
    {"train.iwae_samples": 50, "train.iwae_start_epoch": 1},
  ],
)
def test_validation_has_the_loss_where_it_is_what_training_minimises(changes):
  """In the middle of KL warm-up: three steps of six are done, and the last of them had a third of the KL."""
  config = importlib.import_module("configs.vae").get_config()
  config.model.update({"hidden_dims": (8,)})
  config.update_from_flattened_dict(
    {"data.name": "tiny", "train.batch_size": 16, "train.kl_warmup_epochs": 2.0} | changes
  )
  experiment = create_experiment(config)
  state = experiment.steps.init(experiment.keys.init).replace(step=jnp.int32(3))
  numbers = validate(experiment, state)
  assert numbers["elbo"] == pytest.approx(-(numbers["kl"] + numbers["reconstruction"]))
  if config.train.iwae_samples > 1:
    partial_epoch = config.train.iwae_start_epoch == 0  # three steps are one epoch
    assert numbers.keys() == {"elbo", "kl", "reconstruction"} | ({"importance_bound"} if partial_epoch else set())
    if partial_epoch:
      again, images = rng.create_rng_streams(config).evaluate, experiment.data.validation
      by_hand = evaluation.negative_log_likelihood(
        experiment.inference, state.variables, images, again, config.eval.batch_size, 50, report=lambda count: None
      )
      assert numbers["importance_bound"] == pytest.approx(-by_hand["nll"], rel=1e-6)
      assert numbers["importance_bound"] > numbers["elbo"] + 1
  else:
    kl = max(numbers["kl"], config.train.free_bits)
    assert numbers["loss"] == pytest.approx(numbers["reconstruction"] + 2 / 6 * kl, rel=1e-6)
