"""A trained model: everything that it can be asked, without its data."""

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.serialization import from_state_dict, to_state_dict
from ml_collections import ConfigDict

from latentjax import models, processes
from latentjax.console import console
from latentjax.errors import RunError, UsageError
from latentjax.experiment import Keys, config_of_seed, create_keys
from latentjax.models import Model
from latentjax.training.compiled import Inference, create_inference
from latentjax.training.state import Variables
from latentjax.workdir import record, weights


class Trained(NamedTuple):
  """One seed's model as it is evaluated.

  Attributes:
    config: of the single run that the seed amounts to.
    variables: averaged weights, if the run averages them, and batch-norm statistics; the evaluation recomputes these
      for the weights.
    step: of the training, at which it had them.
  """

  config: ConfigDict
  model: Model
  inference: Inference
  keys: Keys
  variables: Variables
  step: int

  @property
  def latent_dims(self) -> tuple[int, ...]:
    """Z_l of every latent group."""
    blank = jax.ShapeDtypeStruct((1, *self.model.image_shape), np.float32)
    return tuple(group.shape[-1] for group in jax.eval_shape(self.inference.encode, self.variables, blank))

  def on_one_device(self) -> "Trained":
    """The same on one device of this process: for what is too little to divide, or done in one process only."""
    if self.inference.num_devices == 1:
      return self
    return self._replace(inference=create_inference(self.config, self.model), variables=processes.local(self.variables))


def load_first_seed(config: ConfigDict, workdir: Path) -> Trained:
  """Loads the first seed's model, see `load_seed`; prints which seed it is, and if results.json is of another step."""
  loaded, results = first_seed(load_seed(config, workdir), workdir), record.read_results(workdir)
  measured = next(iter(results["seeds"].values())) if results and "seeds" in results else results
  if measured and measured.get("step", loaded.step) != loaded.step:
    console.print(f"{workdir / 'results.json'} is of another epoch than the model: --mode=evaluate measures this one")
  return loaded


def first_seed(seed: Trained, workdir: Path) -> Trained:
  """Returns the first seed of a run on one device; prints which it is if there are several."""
  saved = record.read_config(workdir)
  if saved.train.num_seeds > 1:
    console.print(f"of seed {saved.seed}, the first of {saved.train.num_seeds}:")
  return seed.on_one_device()


def load_seed(config: ConfigDict, workdir: Path, index: int = 0) -> Trained:
  """Loads a seed's model from the workdir's model.npz, on one device.

  Args:
    config: of the workdir; its seed decides what is drawn from the model.
    index: of the seed among those trained together.

  Raises:
    UsageError: there is no model.npz.
    RunError: it is damaged, of a later format, or no file of this config.
  """
  saved = weights.read(workdir)
  if saved is None:
    remedy = "--mode=train writes one after its first epoch"
    if any((workdir / "checkpoints").glob("[0-9]*")):
      remedy = "--mode=evaluate writes it from the checkpoints"
    raise UsageError(f"No trained model in {workdir}: there is no {weights.NAME}. {remedy}.")
  config = config_of_seed(config, index)
  model = models.create(config.model, saved.image_shape)
  own = variables_of(model)
  if index >= len(saved.steps) or weights.describe(to_state_dict(own), 0) != weights.describe(saved.variables, 1):
    raise RunError(f"{workdir / weights.NAME} is not of {workdir / 'config.json'}: --mode=evaluate writes it anew")
  variables = from_state_dict(own, jax.tree.map(lambda x: jnp.asarray(x[index]), saved.variables))
  return Trained(config, model, create_inference(config, model), create_keys(config), variables, saved.steps[index])


def variables_of(model: Model) -> Variables:
  """Shapes and types of a model's variables."""

  def init(init_key, sample_key):
    return {"batch_stats": {}} | model.init(init_key, jnp.zeros((1, *model.image_shape)), sample_key)

  return jax.eval_shape(init, *jax.random.split(jax.random.key(0)))
