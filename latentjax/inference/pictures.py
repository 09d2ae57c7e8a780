"""Pictures of a trained model: samples, reconstructions, interpolations, traversals and the model's own."""

import math
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from latentjax.inference.latent_space import NUM_INTERPOLATIONS, TRAVERSAL_VALUES, interpolate, traverse
from latentjax.inference.trained_model import TrainedModel
from latentjax.models.base import DrawingAnimation, ImageGrid, Picture, TitledGrids
from latentjax.workdir import plots


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
