"""Batch-norm statistics of the evaluated weights over an epoch."""

import jax
import numpy as np
import pytest
import tiny

from latentjax.runtime import rng
from latentjax.training import restore
from latentjax.training.experiment import create_experiment


@pytest.mark.parametrize("steps_per_call", [1, 50])
def test_statistics_are_means_over_the_batches_of_an_epoch(tiny_cache, steps_per_call):
  """Of the encoders, which do not depend on noise; 48 images are three batches."""
  config = tiny.create_config("ladder_vae", {"data.binarization": "none", "train.steps_per_call": steps_per_call})
  experiment = create_experiment(config)
  state = experiment.train_fns.init(experiment.keys.init)
  state = state.replace(average=jax.tree.map(lambda x: 1.5 * x, state.params))
  found = restore.recompute_batch_statistics(experiment, state).stats

  order = experiment.train_fns.order(rng.create_rng_streams(config).order, 0)
  statistics = []
  for batch in np.asarray(order).reshape(3, 16):
    pixels = experiment.data.train[batch].astype(np.float32) / 255
    variables = {"params": state.average, "batch_stats": state.stats}
    _, updated = experiment.model.apply(variables, pixels, jax.random.key(0), mutable=["batch_stats"])
    statistics.append(updated["batch_stats"])
  for name in ("encoders_0", "encoders_1"):
    expected = jax.tree.map(lambda *batches: np.mean(batches, axis=0), *[stats[name] for stats in statistics])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found[name], expected)
