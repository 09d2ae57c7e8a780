"""--mode=explore: a page that runs a workdir's model in the browser."""

from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from latentjax import models
from latentjax.cli import sample
from latentjax.inference import latent_space
from latentjax.inference.explore import page
from latentjax.inference.explore.generative import Arrays, generative_arrays
from latentjax.inference.trained_model import TrainedModel, load_first_seed
from latentjax.models.base import num_parameters
from latentjax.runtime.console import console
from latentjax.runtime.errors import UsageError
from latentjax.runtime.fileio import write_atomic
from latentjax.workdir import records
from latentjax.workdir.protocol import protocol_of

PAGE_NAME = "explore.html"

NUM_TEST_IMAGES = 10  # test images in the page

KL_SAMPLE_SIZE = 500  # over which the KL of every latent is averaged


def run(config: ConfigDict, workdir: Path) -> None:
  """Writes explore.html of the model that `workdir` holds; without test images the page has no ways between them.

  Raises:
    UsageError: there is no model yet, no page for such a model, or the workdir holds a different experiment.
    RunError: it cannot be read, or the page not be written.
  """
  records.check_same_experiment(workdir, config, ("seed", *models.performance_keys(config.model)))
  if not page.supports(config.model.name):
    raise UsageError(f"--mode=explore has no page for a model of the name {config.model.name!r}")
  likelihood = config.model.get("likelihood", "bernoulli")
  if likelihood not in page.LIKELIHOODS:
    raise UsageError(f"--mode=explore cannot show model.likelihood = {likelihood!r} yet")
  trained = load_first_seed(config, workdir)
  model, fields = trained.model, config.model.to_dict()
  arrays = generative_arrays(fields["name"], trained.variables)
  images, kl = sample.test_images(config, workdir), None
  if images is not None:
    kl = latent_space.kl_per_latent(trained, images[:KL_SAMPLE_SIZE])
    arrays |= test_image_arrays(trained, images[:NUM_TEST_IMAGES])
  content = page.render(
    models.display_name(config.model),
    run_facts(trained, workdir, images),
    fields,
    model.image_shape,
    trained.latent_dims,
    arrays,
    kl,
  )
  write_atomic(workdir / PAGE_NAME, content)
  console.print(f"  {workdir / PAGE_NAME} is one file of {len(content) / 1e6:.1f} MB, for any browser")


def test_image_arrays(trained: TrainedModel, images: np.ndarray) -> Arrays:
  """Test images and their latents, as `page.render` takes them."""
  latents = jax.device_get(trained.inference.encode(trained.variables, images))
  return {"test/images": images / 255, **{f"test/latents/{index}": group for index, group in enumerate(latents)}}


def run_facts(trained: TrainedModel, workdir: Path, images: np.ndarray | None) -> list[str]:
  """About the run, in words; its numbers where they are of this very state.

  Args:
    images: of the test split, where they are known.
  """
  words = [f"trained on {trained.config.data.name}", f"{num_parameters(trained.variables['params']):,} parameters"]
  saved, results = records.read_config(workdir), records.read_results(workdir)
  if saved.train.num_seeds > 1:
    words.append(f"seed {saved.seed}, the first of {saved.train.num_seeds}")
  elif results is not None and results.get("step") == trained.step:
    test, metric_names = results["test"], protocol_of(trained.config).metric_names
    count = test.get("num_examples")
    few = f" (of {count:,} images only)" if images is not None and count is not None and count < len(images) else ""
    words.append(f"test {metric_names.terms['elbo']} {test['elbo']:.2f} nats{few}")
    if test.get("nll") is not None:
      words.append(f"test {metric_names.nll} {test['nll']:.2f} nats (K = {test['nll_samples']}){few}")
  return words
