"""`latentjax explore`: an HTML page that runs the model of a run in the browser."""

from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from latentjax import models
from latentjax.cli import sample
from latentjax.inference import evaluation
from latentjax.inference.explore import page
from latentjax.inference.trained_model import TrainedModel, load_first_seed
from latentjax.models.base import num_parameters
from latentjax.runtime.console import console
from latentjax.runtime.errors import UsageError
from latentjax.runtime.fileio import write_atomic
from latentjax.workdir.run import Run

NUM_TEST_IMAGES = 10  # in the page
KL_SAMPLE_SIZE = 500  # test images over which the KL of every latent is averaged


def run(config: ConfigDict, workdir: Path) -> None:
  """Writes explore.html; without test images the page has no interpolations."""
  run = Run.open(workdir, config, ("seed", *models.performance_keys(config.model)))
  if config.model.name not in page.WORDS:
    raise UsageError(f"`latentjax explore` has no page for a model named {config.model.name!r}. See docs/code.md.")
  if run.protocol.likelihood not in page.LIKELIHOODS:
    raise UsageError(f"`latentjax explore` does not support model.likelihood = {run.protocol.likelihood!r}.")
  trained, path = load_first_seed(run), workdir / "explore.html"
  content = render(run, trained, sample.load_test_images(run))
  write_atomic(path, content)
  console.print(f"  {path} is one file of {len(content) / 1e6:.1f} MB, for any browser")


def render(run: Run, trained: TrainedModel, images: np.ndarray | None) -> str:
  """Returns the page of a model as HTML, with test images [M, H, W, C] if any."""
  fields, kl = run.config.model.to_dict(), None
  arrays = page.generative_arrays(fields["name"], trained.variables)
  if images is not None:
    args = trained.inference, trained.variables, images[:KL_SAMPLE_SIZE], trained.keys.evaluate
    kl = evaluation.kl_per_latent(*args)
    if not all(np.isfinite(group).all() for group in kl):
      console.print("The KL of some latents is NaN or infinite. The page leaves the KL out.")
      kl = None
    shown = images[:NUM_TEST_IMAGES]
    latents = jax.device_get(trained.inference.encode(trained.variables, shown))
    arrays |= {"test/images": shown / 255, **{f"test/latents/{index}": group for index, group in enumerate(latents)}}
  title, facts = models.display_name(run.config.model), run_facts(run, trained, images)
  return page.render(title, facts, fields, trained.image_shape, trained.latent_dims, arrays, kl)


def run_facts(run: Run, trained: TrainedModel, images: np.ndarray | None) -> list[str]:
  """Returns short statements about a run and, if they were measured at the model's step, metrics of its test images."""
  facts = [f"trained on {run.config.data.name}", f"{num_parameters(trained.variables['params']):,} parameters"]
  if len(run.seeds) > 1:
    facts.append(f"seed {run.seeds[0]}, the first of {len(run.seeds)}")
  elif run.results is not None and run.results.get("step") == trained.step:
    test, names = run.results["test"], run.metric_names
    count = test.get("num_examples")
    subset = f" (of {count:,} images only)" if images is not None and count is not None and count < len(images) else ""
    if test["elbo"] is not None:
      facts.append(f"test {names.terms['elbo']} {test['elbo']:.2f} nats{subset}")
    if test.get("nll") is not None:
      facts.append(f"test {names.nll} {test['nll']:.2f} nats (K = {test['nll_samples']}){subset}")
  return facts
