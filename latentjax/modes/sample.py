"""--mode=sample: pictures from a workdir's model."""

import math
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from latentjax import models
from latentjax.console import console
from latentjax.data import dataset
from latentjax.errors import RunError, UsageError
from latentjax.models.pictures import Animation, Blocks, Grid, Picture
from latentjax.trained import Trained, load_first_seed
from latentjax.workdir import plots, record

ROWS, STEPS = 8, 10  # interpolations, and the images of each
UNITS, VALUES = 10, np.linspace(-3, 3, 13)  # traversals, and where each stops, in units of the prior


def run(config: ConfigDict, workdir: Path) -> None:
  """Draws the pictures of the model that `workdir` holds; what shows no test images needs no data.

  Raises:
    UsageError: there is no model yet, or the workdir holds a different experiment.
    RunError: it cannot be read.
  """
  record.require_same(workdir, config, ("seed", *models.speed_keys(config.model)))
  trained = load_first_seed(config, workdir)
  finish(trained, test_images(config, workdir), workdir)


def test_images(config: ConfigDict, workdir: Path) -> np.ndarray | None:
  """The test split of what a workdir was trained on, or None where it cannot be had without a download, and says so."""
  try:
    if not dataset.prepared(config.data.name, config.data.image_size):
      reason = "they are not prepared here"
    else:
      data = dataset.load(**config.data.to_dict())
      record.require_same_images(workdir, config.data.name, data.sha256)
      return data.test
  except (RunError, UsageError) as error:
    reason = str(error)
  console.print(f"no test images of {config.data.name} ({reason}): only what the model draws by itself")
  return None


def finish(trained: Trained, test: np.ndarray | None, workdir: Path) -> None:
  """Writes the pictures and prints their paths.

  All models: samples.png, reconstructions.png, interpolations.png, traversals.png; and what the model has of its own.

  Args:
    trained: of one seed, on one device.
    test: [M, H, W, C] uint8; without them what shows test images is left out.
  """
  inference, variables, num_images = trained.inference, trained.variables, trained.config.sample.num_images
  prior_key, posterior_key, own_key = jax.random.split(trained.keys.sample, 3)
  columns = math.ceil(math.sqrt(num_images))

  def save(name: str, draw: Callable, *args) -> None:
    draw(workdir / name, *args)
    console.print(f"  {workdir / name}")

  samples = inference.sample(variables, prior_key, num_images)
  save("samples.png", plots.save_grid, jax.device_get(samples), columns)

  images = None if test is None else test[:num_images]
  if images is not None:
    terms = inference.evaluate(variables, images, posterior_key)
    save("reconstructions.png", plots.save_reconstructions, images / 255, jax.device_get(terms.mean), columns)

    ends = test[: min(2 * ROWS, max(2, num_images))]
    if len(ends) > 1:
      paths = interpolate(trained, ends)
      save("interpolations.png", plots.save_grid, paths.reshape(-1, *paths.shape[2:]), paths.shape[1])

  shown = samples if test is None else test[: trained.config.eval.batch_size]
  rows, units = traverse(trained, shown)
  save("traversals.png", plots.save_traversals, rows, units, VALUES)

  for name, picture in jax.device_get(inference.pictures(variables, own_key, images)).items():
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


def traverse(trained: Trained, images: np.ndarray | jax.Array) -> tuple[np.ndarray, list[str]]:
  """One unit after the other changed, all else left at the posterior means of the first image.

  Args:
    images: [M, H, W, C] as `inference.evaluate` takes them.

  Returns:
    [R, len(VALUES), H, W, C] for the R units of the largest KL, averaged over the images; and what they are.
  """
  inference, variables, kl = trained.inference, trained.variables, kl_per_latent(trained, images)
  every = [(group, unit) for group, of_group in enumerate(kl) for unit in range(len(of_group))]
  units = sorted(every, key=lambda place: -kl[place[0]][place[1]])[:UNITS]
  means = jax.device_get(inference.encode(variables, images))  # of all, which --mode=evaluate compiles, too
  latents = [np.tile(group[0], (len(units), len(VALUES), 1)) for group in means]
  for row, (group, unit) in enumerate(units):
    latents[group][row, :, unit] = VALUES
  decoded = jax.device_get(inference.decode(variables, [group.reshape(-1, group.shape[-1]) for group in latents]))
  titles = [f"z{group + 1}, unit {unit + 1}\n{kl[group][unit]:.2f} nats" for group, unit in units]
  return decoded.reshape(len(units), len(VALUES), *decoded.shape[1:]), titles


def kl_per_latent(trained: Trained, images: np.ndarray | jax.Array) -> list[np.ndarray]:
  """L arrays [Z_l] of nats: the KL of every latent, averaged over uint8 images [M, H, W, C], with one sample each."""
  key = jax.random.fold_in(trained.keys.evaluate, 0)  # of the first batch of --mode=evaluate
  return [np.asarray(group).mean(0) for group in trained.inference.unit_kl(trained.variables, images, key)]
