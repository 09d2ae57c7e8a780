"""--mode=sample: pictures from a workdir's best checkpoint."""

import math
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from latentjax import processes
from latentjax.console import console
from latentjax.data.batches import to_pixels
from latentjax.experiment import Experiment
from latentjax.models.pictures import Animation, Blocks, Grid, Picture
from latentjax.modes.evaluate import reopen, restore_best
from latentjax.training.state import TrainState
from latentjax.workdir import plots, record

ROWS, STEPS = 8, 10  # interpolations, and the images of each


def run(config: ConfigDict, workdir: Path) -> None:
  """Draws the pictures of the best checkpoint of `workdir`.

  Raises:
    UsageError: there is none.
    RunError: it cannot be read.
  """
  experiment, state = next(restore_best(reopen(config, workdir), workdir))
  finish(experiment, state, workdir)


def finish(experiment: Experiment, state: TrainState, workdir: Path) -> None:
  """Writes the pictures and prints their paths.

  All models: samples.png, reconstructions.png, interpolations.png; and what the model has of its own.

  Args:
    experiment, state: of one seed; the state settled.
  """
  experiment, state = experiment.alone(), processes.local(state)
  trained = record.read_config(workdir)
  if trained.train.num_seeds > 1:
    console.print(f"pictures are of seed {trained.seed}, the first of {trained.train.num_seeds}")
  model, variables, num_images = experiment.model, state.variables, experiment.config.sample.num_images
  prior_key, posterior_key, own_key = jax.random.split(experiment.keys.sample, 3)
  columns = math.ceil(math.sqrt(num_images))
  test = experiment.data.test[:num_images]

  def save(name: str, draw: Callable, *args) -> None:
    draw(workdir / name, *args)
    console.print(f"  {workdir / name}")

  samples = experiment.steps.sample(variables, prior_key, num_images)
  save("samples.png", plots.save_grid, jax.device_get(samples), columns)

  terms = experiment.steps.evaluate(variables, test, posterior_key)
  save("reconstructions.png", plots.save_reconstructions, test / 255, jax.device_get(terms.mean), columns)

  ends = experiment.data.test[: min(2 * ROWS, max(2, num_images))]
  if len(ends) > 1:
    paths = interpolate(experiment, state, ends)
    save("interpolations.png", plots.save_grid, paths.reshape(-1, *paths.shape[2:]), paths.shape[1])

  pictures = model.apply(variables, own_key, to_pixels(test), method="pictures")
  for name, picture in jax.device_get(pictures).items():
    save(name, *saved_by(picture))


def saved_by(picture: Picture) -> tuple:
  """The function of `plots` that saves a picture, and its arguments after the path."""
  match picture:
    case Animation(canvases, images, read, write, read_size, write_size):
      return plots.save_drawing, canvases, write, images, read, write_size, read_size
    case Grid(images):
      return plots.save_grid, images.reshape(-1, *images.shape[2:]), images.shape[1]
    case Blocks(images, titles):
      return plots.save_blocks, dict(zip(titles, images, strict=True))


def interpolate(experiment: Experiment, state: TrainState, images: np.ndarray) -> np.ndarray:
  """[M // 2, STEPS + 2, H, W, C]: image 2i, the way between the latents of 2i and 2i + 1, and image 2i + 1.

  The way is straight in the posterior means in units of their priors, all groups of latents at once.

  Args:
    images: [M, H, W, C] uint8; an odd last one is left out.
  """
  images = images[: len(images) // 2 * 2]
  between = np.linspace(0.0, 1.0, STEPS, dtype=np.float32)[None, :, None]

  def along(group: np.ndarray) -> np.ndarray:  # [M, Z] -> [M // 2 * STEPS, Z]
    start, end = group[0::2, None], group[1::2, None]
    return ((1 - between) * start + between * end).reshape(-1, group.shape[-1])

  latents = [along(group) for group in jax.device_get(experiment.steps.encode(state.variables, images))]
  decoded = jax.device_get(experiment.steps.decode(state.variables, latents))
  pixels = images[:, None] / 255
  return np.concatenate([pixels[0::2], decoded.reshape(-1, STEPS, *images.shape[1:]), pixels[1::2]], axis=1)
