"""Validation metrics. The training loop is tested in tests/cli/test_train.py."""

import jax.numpy as jnp
import pytest
import tiny

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
def test_validation_reports_the_training_loss(changes):
  """During KL warm-up, after three of six steps, the last of which weighed the KL by 1/3."""
  config = tiny.create_config("vae", {"train.kl_warmup_epochs": 2.0} | changes)
  experiment = create_experiment(config)
  state = experiment.train_fns.init(experiment.keys.init).replace(step=jnp.int32(3))
  metrics = validate(experiment, state)
  assert metrics["elbo"] == pytest.approx(-(metrics["kl"] + metrics["reconstruction"]))
  if config.train.iwae_samples > 1:
    importance_weighted = config.train.iwae_start_epoch == 0  # three steps are one epoch
    assert metrics.keys() == {"elbo", "kl", "reconstruction"} | ({"importance_bound"} if importance_weighted else set())
    if importance_weighted:
      key, images = rng.create_rng_streams(config).evaluate, experiment.data.validation
      expected = evaluation.negative_log_likelihood(
        experiment.inference, state.variables, images, key, config.eval.batch_size, 50, report=lambda count: None
      )
      assert metrics["importance_bound"] == pytest.approx(-expected["nll"], rel=1e-6)
      assert metrics["importance_bound"] > metrics["elbo"] + 1
  else:
    kl = max(metrics["kl"], config.train.free_bits)
    assert metrics["loss"] == pytest.approx(metrics["reconstruction"] + 2 / 6 * kl, rel=1e-6)
