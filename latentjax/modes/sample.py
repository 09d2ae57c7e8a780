"""--mode=sample: pictures from a workdir's best checkpoint."""

import math
from pathlib import Path

import jax
from ml_collections import ConfigDict

from latentjax.console import console
from latentjax.experiment import Experiment
from latentjax.models import DRAW
from latentjax.modes.evaluate import reopen, restore_best
from latentjax.training.state import TrainState
from latentjax.workdir import plots

DRAWN = 10  # images side by side in the animation


def run(config: ConfigDict, workdir: Path) -> None:
  """Draws the pictures of the best checkpoint of `workdir`.

  Raises:
    UsageError: there is none.
    RunError: it cannot be read.
  """
  experiment = reopen(config, workdir)
  finish(experiment, restore_best(experiment, workdir), workdir)


def finish(experiment: Experiment, state: TrainState, workdir: Path) -> None:
  """Writes samples.png, reconstructions.png and, for DRAW, drawing.gif and dream.gif (a drawing from the prior)."""
  model, variables = experiment.model, {"params": state.eval_params}
  prior_key, posterior_key, drawing_key, dream_key = jax.random.split(experiment.keys.sample, 4)
  count = experiment.config.sample.num_images
  columns = math.ceil(math.sqrt(count))
  test = experiment.data.test[:count] / 255
  paths = [workdir / "samples.png", workdir / "reconstructions.png"]

  samples = experiment.steps.sample(state.eval_params, prior_key, count)
  plots.save_grid(paths[0], jax.device_get(samples), columns)

  terms = experiment.steps.evaluate(state.eval_params, experiment.data.test[:count], posterior_key)
  plots.save_reconstructions(paths[1], test, jax.device_get(jax.nn.sigmoid(terms.logits)), columns)

  if isinstance(model, DRAW):
    paths += [workdir / "drawing.gif", workdir / "dream.gif"]
    drawing = jax.device_get(model.apply(variables, test[:DRAWN], drawing_key, method="draw"))
    plots.save_drawing(
      paths[2], drawing.canvases, drawing.write, test[:DRAWN], drawing.read, model.write_size, model.read_size
    )
    dream = jax.device_get(model.apply(variables, dream_key, DRAWN, method="dream"))
    plots.save_drawing(paths[3], dream.canvases, dream.write, write_size=model.write_size)
  for path in paths:
    console.print(f"  {path}")
