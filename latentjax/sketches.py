"""Pictures of a model while it trains, for TensorBoard: samples, and images beside their reconstructions."""

import io
import math

import jax

from latentjax.experiment import Experiment
from latentjax.training.state import TrainState
from latentjax.workdir import plots


def draw(experiment: Experiment, state: TrainState) -> dict[str, bytes]:
  """Sheets of samples and of validation images with reconstructions, as PNG; of the first of several seeds.

  They take no part in training. On one device the programs are those that draw the run's last pictures, compiled once
  for both.
  """
  one, count = experiment.by_seed[0], experiment.config.sample.num_images
  variables = (state if experiment.config.train.num_seeds == 1 else state.of_seed(0)).variables
  prior_key, posterior_key = jax.random.split(jax.random.fold_in(one.keys.sample, 0))
  samples = one.inference.sample(variables, prior_key, count)
  images, columns = experiment.data.validation[:count], math.ceil(math.sqrt(count))
  means = one.inference.evaluate(variables, images, posterior_key).mean
  sheets = io.BytesIO(), io.BytesIO()
  plots.save_grid(sheets[0], jax.device_get(samples), columns)
  plots.save_reconstructions(sheets[1], images / 255, jax.device_get(means), columns)
  return {name: sheet.getvalue() for name, sheet in zip(("samples", "reconstructions"), sheets, strict=True)}
