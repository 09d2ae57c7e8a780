"""--mode=sample: pictures from a workdir's best checkpoint."""

import math
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from latentjax import best
from latentjax.console import console
from latentjax.data import dataset
from latentjax.errors import RunError, UsageError
from latentjax.models import DRAW, LadderVAE
from latentjax.models.ladder_vae import standard_normals
from latentjax.trained import Trained
from latentjax.workdir import plots, record

DRAWN = 10  # images side by side in an animation
STRIP = 16  # steps of a drawing side by side, at most
ROWS, STEPS = 8, 10  # interpolations, and the images of each
HELD = 6  # samples to a side of a block with upper layers held


def run(config: ConfigDict, workdir: Path) -> None:
  """Draws the pictures of the model that `workdir` holds; what shows no test images needs no data.

  Raises:
    UsageError: there is no model yet, or the workdir holds a different experiment.
    RunError: it cannot be read.
  """
  record.require_same(workdir, config, ignore=("seed",))
  trained = best.open_first(config, workdir).on_one_device()
  finish(trained, test_images(config, trained.model.image_shape), workdir)


def test_images(config: ConfigDict, image_shape: tuple[int, int, int]) -> np.ndarray | None:
  """The test split, or None where it cannot be had without a download, which it says."""
  try:
    if not dataset.prepared(config.data.name):
      reason = "they are not prepared here"
    else:
      images = dataset.load(config.data.name, config.data.binarization, config.data.placement).test
      if images.shape[1:] == image_shape:
        return images
      reason = "they have another size now"
  except (RunError, UsageError) as error:
    reason = str(error)
  console.print(f"no test images of {config.data.name} ({reason}): only what the model draws by itself")
  return None


def finish(trained: Trained, test: np.ndarray | None, workdir: Path) -> None:
  """Writes the pictures and prints their paths.

  All models: samples.png, reconstructions.png, interpolations.png. DRAW: drawing.gif (test images drawn again),
  dream.gif and dream.png (a drawing from the prior). Ladder VAE: layers.png (samples with upper layers held).

  Args:
    trained: of one seed, on one device.
    test: [M, H, W, C] uint8; without them what shows test images is left out.
  """
  saved = record.read_config(workdir).train
  if saved.num_seeds > 1:
    console.print(f"pictures are of seed {record.read_config(workdir).seed}, the first of {saved.num_seeds}")
  model, variables, num_images = trained.model, trained.variables, trained.config.sample.num_images
  prior_key, posterior_key, drawing_key, dream_key, layers_key = jax.random.split(trained.keys.sample, 5)
  columns = math.ceil(math.sqrt(num_images))

  def save(name: str, draw: Callable, *args) -> None:
    draw(workdir / name, *args)
    console.print(f"  {workdir / name}")

  samples = trained.inference.sample(variables, prior_key, num_images)
  save("samples.png", plots.save_grid, jax.device_get(samples), columns)

  if test is not None:
    images = test[:num_images]
    terms = trained.inference.evaluate(variables, images, posterior_key)
    save("reconstructions.png", plots.save_reconstructions, images / 255, jax.nn.sigmoid(terms.logits), columns)

    ends = test[: min(2 * ROWS, max(2, num_images))]
    if len(ends) > 1:
      paths = interpolate(trained, ends)
      save("interpolations.png", plots.save_grid, paths.reshape(-1, *paths.shape[2:]), paths.shape[1])

  if isinstance(model, DRAW) and test is not None:
    images = test[: min(DRAWN, num_images)] / 255
    drawing = jax.device_get(model.apply(variables, images, drawing_key, method="draw"))
    windows = drawing.write, images, drawing.read, model.write_size, model.read_size
    save("drawing.gif", plots.save_drawing, drawing.canvases, *windows)

  if isinstance(model, DRAW):
    dream = jax.device_get(model.apply(variables, dream_key, DRAWN, method="dream"))
    save("dream.gif", plots.save_drawing, dream.canvases, dream.write, None, None, model.write_size)
    shown = np.unique(np.linspace(0, model.num_steps - 1, min(model.num_steps, STRIP)).round().astype(int))
    strip = dream.canvases[shown].swapaxes(0, 1)  # [DRAWN, shown, H, W, C]
    save("dream.png", plots.save_grid, strip.reshape(-1, *strip.shape[2:]), len(shown))

  if isinstance(model, LadderVAE):
    blocks = hold_layers(trained, layers_key)
    titles = ["nothing held"] + [f"held from z{index + 1} up" for index in reversed(range(1, len(blocks)))]
    save("layers.png", plots.save_blocks, dict(zip(titles, blocks, strict=True)))


def interpolate(trained: Trained, images: np.ndarray) -> np.ndarray:
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

  latents = [along(group) for group in jax.device_get(trained.inference.encode(trained.variables, images))]
  decoded = jax.device_get(trained.inference.decode(trained.variables, latents))
  pixels = images[:, None] / 255
  return np.concatenate([pixels[0::2], decoded.reshape(-1, STEPS, *images.shape[1:]), pixels[1::2]], axis=1)


def hold_layers(trained: Trained, key: jax.Array) -> np.ndarray:
  """[L, R, R, H, W, C] samples of a Ladder VAE: block 0 holds nothing; in block j a row shares its top j layers."""
  sizes = trained.model.latent_dims
  free, rows = (standard_normals(half, HELD * HELD, sizes) for half in jax.random.split(key))
  latents = []
  for index, size in enumerate(sizes):
    own, shared = (np.asarray(noise[index]).reshape(HELD, HELD, size) for noise in (free, rows))
    shared = np.broadcast_to(shared[:, :1], own.shape)
    held = [own if index < len(sizes) - block else shared for block in range(len(sizes))]
    latents.append(np.concatenate(held).reshape(-1, size))  # [L R R, Z]
  images = np.asarray(trained.inference.decode(trained.variables, latents))
  return images.reshape(len(sizes), HELD, HELD, *images.shape[1:])
