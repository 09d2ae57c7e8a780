"""What a run is judged by: batch-norm statistics of the evaluated weights over a whole epoch."""

import importlib

import jax
import numpy as np
import pytest

from latentjax.runtime import rng
from latentjax.training import restore
from latentjax.training.experiment import create_experiment


@pytest.mark.parametrize("steps_per_call", [1, 50])
def test_statistics_are_means_over_the_batches_of_an_epoch(tiny_cache, steps_per_call):
  """Of the encoders, which no noise reaches; 48 images are three batches."""
  config = importlib.import_module("configs.ladder_vae").get_config()
  config.model.update({"hidden_dims": (8, 6), "latent_dims": (3, 2)})
  config.data.update({"name": "tiny", "binarization": "none"})
  config.train.update({"batch_size": 16, "steps_per_call": steps_per_call})
  experiment = create_experiment(config)
  state = experiment.steps.init(experiment.keys.init)
  state = state.replace(average=jax.tree.map(lambda x: 1.5 * x, state.params))
  found = restore.recompute_batch_statistics(experiment, state).stats

  order = experiment.steps.order(rng.create_rng_streams(config).order, 0)
  seen = []
  for batch in np.asarray(order).reshape(3, 16):
    pixels = experiment.data.train[batch].astype(np.float32) / 255
    variables = {"params": state.average, "batch_stats": state.stats}
    _, changed = experiment.model.apply(variables, pixels, jax.random.key(0), mutable=["batch_stats"])
    seen.append(changed["batch_stats"])
  for name in ("encoders_0", "encoders_1"):
    expected = jax.tree.map(lambda *batches: np.mean(batches, axis=0), *[stats[name] for stats in seen])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found[name], expected)
