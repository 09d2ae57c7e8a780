"""Pictures of a trained model: samples, reconstructions, interpolations, traversals and the model's own.

Shapes: M images, H W C image, L latent groups, Z_l latents of a group.
"""

import math
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from latentjax.inference import evaluation
from latentjax.inference.trained_model import TrainedModel
from latentjax.models.base import DrawingAnimation, ImageGrid, Picture, TitledGrids
from latentjax.workdir import plots

NUM_INTERPOLATIONS, INTERPOLATION_STEPS = 8, 10
NUM_TRAVERSED_UNITS, TRAVERSAL_VALUES = 10, np.linspace(-3, 3, 13)  # in units of the prior


def save_images(trained: TrainedModel, test: np.ndarray | None, workdir: Path) -> list[str]:
  """Writes samples, reconstructions, interpolations, traversals and the model's own pictures, and prints their paths.

  `trained` has one seed on one device; without `test`, uint8 [M, H, W, C], images that show test images are left out.
  Returns the names of those that could not be drawn.
  """
  inference, variables, num_images = trained.inference, trained.variables, trained.config.sample.num_images
  prior_key, posterior_key, picture_key = jax.random.split(trained.keys.sample, 3)
  columns, failed = math.ceil(math.sqrt(num_images)), []

  def save(name: str, draw: Callable, *args) -> None:
    if not plots.save(workdir / name, draw, *args):
      failed.append(name)

  samples = inference.sample(variables, prior_key, num_images)
  save("samples.png", plots.save_grid, jax.device_get(samples), columns)
  images = None if test is None else test[:num_images]
  if images is not None:
    terms = inference.evaluate(variables, images, posterior_key)
    save("reconstructions.png", plots.save_reconstructions, images / 255, jax.device_get(terms.mean), columns)
    ends = test[: min(2 * NUM_INTERPOLATIONS, max(2, num_images))]
    if len(ends) > 1:
      paths = interpolate(trained, ends)
      save("interpolations.png", plots.save_grid, paths.reshape(-1, *paths.shape[2:]), paths.shape[1])
  rows, units = traverse(trained, samples if test is None else test[: trained.config.eval.batch_size])
  save("traversals.png", plots.save_traversals, rows, units, TRAVERSAL_VALUES)
  for name, picture in jax.device_get(inference.pictures(variables, picture_key, images)).items():
    save(name, *plot_call(picture))
  return failed


def plot_call(picture: Picture) -> tuple:
  """Returns the function of `plots` that saves a picture, and its arguments after the path."""
  match picture:
    case DrawingAnimation(canvases, images, read, write, read_size, write_size):
      return plots.save_drawing, canvases, write, images, read, write_size, read_size
    case ImageGrid(images):
      return plots.save_grid, images.reshape(-1, *images.shape[2:]), images.shape[1]
    case TitledGrids(images, titles):
      return plots.save_blocks, dict(zip(titles, images, strict=True))


def interpolate(trained: TrainedModel, images: np.ndarray) -> np.ndarray:
  """Interpolates between pairs of images, linearly in the posterior means (in units of the prior) of all groups.

  Returns [M // 2, INTERPOLATION_STEPS + 2, H, W, C]: image 2i, the interpolation, and image 2i + 1, for images
  [M, H, W, C] of uint8. An odd last one is ignored.
  """
  images = images[: len(images) // 2 * 2]
  between = np.linspace(0.0, 1.0, INTERPOLATION_STEPS, dtype=np.float32)[None, :, None]

  def along(group: np.ndarray) -> np.ndarray:  # [M, Z] -> [M // 2 * INTERPOLATION_STEPS, Z]
    start, end = group[0::2, None], group[1::2, None]
    return ((1 - between) * start + between * end).reshape(-1, group.shape[-1])

  latents = [along(group) for group in jax.device_get(trained.inference.encode(trained.variables, images))]
  decoded = jax.device_get(trained.inference.decode(trained.variables, latents))
  pixels = images[:, None] / 255
  return np.concatenate(
    [pixels[0::2], decoded.reshape(-1, INTERPOLATION_STEPS, *images.shape[1:]), pixels[1::2]], axis=1
  )


def traverse(trained: TrainedModel, images: np.ndarray | jax.Array) -> tuple[np.ndarray, list[str]]:
  """Varies one unit at a time, with all others at the posterior means of the first of the images [M, H, W, C].

  Returns [R, len(TRAVERSAL_VALUES), H, W, C] for the R units of the largest KL averaged over the images, and R titles.
  """
  inference, variables = trained.inference, trained.variables
  kl = evaluation.kl_per_latent(inference, variables, images, trained.keys.evaluate)
  all_units = [(group, unit) for group, values in enumerate(kl) for unit in range(len(values))]
  units = sorted(all_units, key=lambda unit: -kl[unit[0]][unit[1]])[:NUM_TRAVERSED_UNITS]
  means = jax.device_get(inference.encode(variables, images))  # of the whole batch, for which it is already compiled
  latents = [np.tile(group[0], (len(units), len(TRAVERSAL_VALUES), 1)) for group in means]
  for row, (group, unit) in enumerate(units):
    latents[group][row, :, unit] = TRAVERSAL_VALUES
  decoded = jax.device_get(inference.decode(variables, [group.reshape(-1, group.shape[-1]) for group in latents]))
  titles = [f"z{group + 1}, unit {unit + 1}\n{kl[group][unit]:.2f} nats" for group, unit in units]
  return decoded.reshape(len(units), len(TRAVERSAL_VALUES), *decoded.shape[1:]), titles
