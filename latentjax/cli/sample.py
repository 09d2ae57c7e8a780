"""--mode=sample: pictures from a workdir's model."""

import math
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from latentjax import models
from latentjax.data import dataset
from latentjax.inference.latent_space import NUM_INTERPOLATIONS, TRAVERSAL_VALUES, interpolate, traverse
from latentjax.inference.trained_model import TrainedModel, load_first_seed
from latentjax.models.base import DrawingAnimation, ImageGrid, Picture, TitledGrids
from latentjax.runtime.console import console
from latentjax.runtime.errors import RunError, UsageError
from latentjax.workdir import plots, records


def run(config: ConfigDict, workdir: Path) -> None:
  """Draws the pictures of the model that `workdir` holds; what shows no test images needs no data.

  Raises:
    UsageError: there is no model yet, or the workdir holds a different experiment.
    RunError: it cannot be read.
  """
  records.check_same_experiment(workdir, config, ("seed", *models.performance_keys(config.model)))
  trained = load_first_seed(config, workdir)
  draw_pictures(trained, test_images(config, workdir), workdir)


def test_images(config: ConfigDict, workdir: Path) -> np.ndarray | None:
  """The test split of what a workdir was trained on, or None where it cannot be had without a download, and says so."""
  try:
    if not dataset.is_prepared(config.data.name, config.data.image_size):
      reason = "they are not prepared here"
    else:
      data = dataset.load_dataset(**config.data.to_dict())
      records.check_same_data(workdir, config.data.name, data.sha256)
      return data.test
  except (RunError, UsageError) as error:
    reason = str(error)
  console.print(f"no test images of {config.data.name} ({reason}): only what the model draws by itself")
  return None


def draw_pictures(trained: TrainedModel, test: np.ndarray | None, workdir: Path) -> None:
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

    ends = test[: min(2 * NUM_INTERPOLATIONS, max(2, num_images))]
    if len(ends) > 1:
      paths = interpolate(trained, ends)
      save("interpolations.png", plots.save_grid, paths.reshape(-1, *paths.shape[2:]), paths.shape[1])

  shown = samples if test is None else test[: trained.config.eval.batch_size]
  rows, units = traverse(trained, shown)
  save("traversals.png", plots.save_traversals, rows, units, TRAVERSAL_VALUES)

  for name, picture in jax.device_get(inference.pictures(variables, own_key, images)).items():
    save(name, *plot_call(picture))


def plot_call(picture: Picture) -> tuple:
  """The function of `plots` that saves a picture, and its arguments after the path."""
  match picture:
    case DrawingAnimation(canvases, images, read, write, read_size, write_size):
      return plots.save_drawing, canvases, write, images, read, write_size, read_size
    case ImageGrid(images):
      return plots.save_grid, images.reshape(-1, *images.shape[2:]), images.shape[1]
    case TitledGrids(images, titles):
      return plots.save_blocks, dict(zip(titles, images, strict=True))
