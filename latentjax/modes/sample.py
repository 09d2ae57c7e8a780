"""--mode=sample: pictures from a workdir's best checkpoint."""

import math
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from latentjax import processes
from latentjax.console import console
from latentjax.experiment import Experiment
from latentjax.models import DRAW, LadderVAE
from latentjax.models.ladder_vae import standard_normals
from latentjax.modes.evaluate import reopen, restore_best
from latentjax.training.state import TrainState, Variables
from latentjax.workdir import plots, record

DRAWN = 10  # images side by side in an animation
STRIP = 16  # steps of a drawing side by side, at most
ROWS, STEPS = 8, 10  # interpolations, and the images of each
HELD = 6  # samples to a side of a block with upper layers held


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

  All models: samples.png, reconstructions.png, interpolations.png. DRAW: drawing.gif (test images drawn again),
  dream.gif and dream.png (a drawing from the prior). Ladder VAE: layers.png (samples with upper layers held).

  Args:
    experiment, state: of one seed; the state settled.
  """
  experiment, state = experiment.alone(), processes.local(state)
  trained = record.read_config(workdir)
  if trained.train.num_seeds > 1:
    console.print(f"pictures are of seed {trained.seed}, the first of {trained.train.num_seeds}")
  model, variables, num_images = experiment.model, state.variables, experiment.config.sample.num_images
  prior_key, posterior_key, drawing_key, dream_key, layers_key = jax.random.split(experiment.keys.sample, 5)
  columns = math.ceil(math.sqrt(num_images))
  test = experiment.data.test[:num_images]

  def save(name: str, draw: Callable, *args) -> None:
    draw(workdir / name, *args)
    console.print(f"  {workdir / name}")

  samples = experiment.steps.sample(variables, prior_key, num_images)
  save("samples.png", plots.save_grid, jax.device_get(samples), columns)

  terms = experiment.steps.evaluate(variables, test, posterior_key)
  save("reconstructions.png", plots.save_reconstructions, test / 255, jax.nn.sigmoid(terms.logits), columns)

  ends = experiment.data.test[: min(2 * ROWS, max(2, num_images))]
  if len(ends) > 1:
    paths = interpolate(experiment, state, ends)
    save("interpolations.png", plots.save_grid, paths.reshape(-1, *paths.shape[2:]), paths.shape[1])

  if isinstance(model, DRAW):
    images = test[:DRAWN] / 255
    drawing = jax.device_get(model.apply(variables, images, drawing_key, method="draw"))
    windows = drawing.write, images, drawing.read, model.write_size, model.read_size
    save("drawing.gif", plots.save_drawing, drawing.canvases, *windows)
    dream = jax.device_get(model.apply(variables, dream_key, DRAWN, method="dream"))
    save("dream.gif", plots.save_drawing, dream.canvases, dream.write, None, None, model.write_size)
    shown = np.unique(np.linspace(0, model.num_steps - 1, min(model.num_steps, STRIP)).round().astype(int))
    strip = dream.canvases[shown].swapaxes(0, 1)  # [DRAWN, shown, H, W, C]
    save("dream.png", plots.save_grid, strip.reshape(-1, *strip.shape[2:]), len(shown))

  if isinstance(model, LadderVAE):
    blocks = hold_layers(experiment, variables, layers_key)
    titles = ["nothing held"] + [f"held from z{index + 1} up" for index in reversed(range(1, len(blocks)))]
    save("layers.png", plots.save_blocks, dict(zip(titles, blocks, strict=True)))


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


def hold_layers(experiment: Experiment, variables: Variables, key: jax.Array) -> np.ndarray:
  """[L, R, R, H, W, C] samples of a Ladder VAE: block 0 holds nothing; in block j a row shares its top j layers."""
  sizes = experiment.model.latent_dims
  free, rows = (standard_normals(half, HELD * HELD, sizes) for half in jax.random.split(key))
  latents = []
  for index, size in enumerate(sizes):
    own, shared = (np.asarray(noise[index]).reshape(HELD, HELD, size) for noise in (free, rows))
    shared = np.broadcast_to(shared[:, :1], own.shape)
    held = [own if index < len(sizes) - block else shared for block in range(len(sizes))]
    latents.append(np.concatenate(held).reshape(-1, size))  # [L R R, Z]
  images = np.asarray(experiment.steps.decode(variables, latents))
  return images.reshape(len(sizes), HELD, HELD, *images.shape[1:])
