"""Several seeds in one program: each trains as it does alone. tests/cli/test_seeds.py tests whole runs."""

import chex
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from latentjax import models
from latentjax.inference import evaluation
from latentjax.inference.functions import create_inference_fns
from latentjax.runtime.rng import create_rng_streams
from latentjax.training import step
from latentjax.training.compile import create_train_fns
from latentjax.training.metrics import NO_DIVERGENCE, Metrics

IMAGES = np.random.default_rng(0).integers(0, 256, (22, 6, 5, 1), np.uint8)


def tiny_config(seed: int, num_seeds: int):
  return tiny.create_config("ladder_vae", {"train.batch_size": 5, "seed": seed, "train.num_seeds": num_seeds})


def compiled(config):
  model = models.create_model(config.model, IMAGES.shape[1:])
  return create_train_fns(config, model, len(IMAGES)), create_inference_fns(config, model)


def train(config, steps, inference, count: int = 3):
  """Returns (state, metrics, validation) after `count` steps and one more call."""
  keys = create_rng_streams(config)
  order = steps.order(keys.order, 0)
  state, _ = steps.train(steps.init(keys.init), IMAGES, order, keys.train, count)
  state, metrics = steps.train(state, IMAGES, order, keys.train, 1)
  return state, metrics, evaluation.evaluate_elbo(inference, state.variables, IMAGES, keys.evaluate, batch_size=8)


def test_each_seed_equals_a_single_run(monkeypatch):
  """In weights, their averages, batch statistics, momentum, metrics and validation; seeds differ.

  By gradient descent: Adam makes whole steps of gradients that are only rounding errors.
  """
  monkeypatch.setattr(step, "create_optimizer", lambda config, schedule, stacked: optax.sgd(1e-2, momentum=0.9))
  together, alone = (compiled(tiny_config(4, num_seeds)) for num_seeds in (3, 1))
  state, metrics, validation = train(tiny_config(4, 3), *together)
  assert int(state.step) == 4
  assert len(set(validation["elbo"])) == 3
  for index in range(3):
    expected, expected_metrics, expected_validation = train(tiny_config(4 + index, 1), *alone)
    chex.assert_trees_all_close(state.of_seed(index), expected, rtol=1e-4, atol=1e-5)
    for name, values in metrics.mean().items():
      assert values[index] == pytest.approx(expected_metrics.mean()[name], rel=1e-5, abs=1e-5)
    for name, values in validation.items():
      assert values[index] == pytest.approx(expected_validation[name], rel=1e-5, abs=1e-5)


def test_the_first_seed_to_diverge_is_known():
  metrics = Metrics.zero(3).replace(diverged_at=jnp.array([NO_DIVERGENCE, 7, 5]))
  assert (Metrics.zero(3) + metrics).divergence == (5, 2)
  assert Metrics.zero(3).divergence is Metrics.zero().divergence is None
