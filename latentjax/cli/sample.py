"""`latentjax sample`: images drawn from the model of a run."""

from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from latentjax import models
from latentjax.data import dataset
from latentjax.inference.pictures import save_images
from latentjax.inference.trained_model import load_first_seed
from latentjax.runtime.console import console
from latentjax.runtime.errors import RunError, UsageError
from latentjax.workdir.run import Run


def run(config: ConfigDict, workdir: Path) -> None:
  """Draws the images of the model in `workdir`; without its data, those that need no test images."""
  run = Run.open(workdir, config, ("seed", *models.performance_keys(config.model)))
  if failed := save_images(load_first_seed(run), load_test_images(run), workdir):
    raise RunError(f"{', '.join(failed)} could not be drawn. The reason is above.")


def load_test_images(run: Run) -> np.ndarray | None:
  """Returns the test split [M, H, W, C] of a run's data, or prints why it is not available and returns None."""
  data = run.config.data
  try:
    if dataset.is_prepared(data.name, data.image_size):
      loaded = dataset.load_dataset(**data.to_dict())
      run.check_data(loaded.sha256)
      return loaded.test
    reason = "they are not prepared here"
  except (RunError, UsageError) as error:
    reason = str(error).rstrip(".")
  console.print(f"No test images of {data.name} ({reason}). Images that need them are left out.")
  return None
