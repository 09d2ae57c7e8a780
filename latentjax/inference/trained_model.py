"""A trained model: everything that it can be asked, without its data."""

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.serialization import from_state_dict, to_state_dict
from ml_collections import ConfigDict

from latentjax import models
from latentjax.config.schema import single_seed_config
from latentjax.inference.functions import InferenceFns, create_inference_fns
from latentjax.models.base import Model, Variables
from latentjax.runtime import distributed
from latentjax.runtime.console import console
from latentjax.runtime.errors import RunError, UsageError
from latentjax.runtime.rng import RngStreams, create_rng_streams
from latentjax.workdir import records, weights


class TrainedModel(NamedTuple):
  """One seed's model as it is evaluated.

  Attributes:
    config: of the single run that the seed amounts to.
    variables: averaged weights, if the run averages them, and batch-norm statistics; the evaluation recomputes these
      for the weights.
    step: of the training, at which it had them.
  """

  config: ConfigDict
  model: Model
  inference: InferenceFns
  keys: RngStreams
  variables: Variables
  step: int

  @property
  def latent_dims(self) -> tuple[int, ...]:
    """Z_l of every latent group."""
    blank = jax.ShapeDtypeStruct((1, *self.model.image_shape), np.float32)
    return tuple(group.shape[-1] for group in jax.eval_shape(self.inference.encode, self.variables, blank))

  def on_one_device(self) -> "TrainedModel":
    """The same on one device of this process: for what is too little to divide, or done in one process only."""
    if self.inference.num_devices == 1:
      return self
    return self._replace(
      inference=create_inference_fns(self.config, self.model), variables=distributed.first_shard(self.variables)
    )


def load_first_seed(config: ConfigDict, workdir: Path) -> TrainedModel:
  """Loads the first seed's model, see `load_seed`; prints which seed it is, and if results.json is of another step."""
  loaded, results = first_seed(load_seed(config, workdir), workdir), records.read_results(workdir)
  measured = next(iter(results["seeds"].values())) if results and "seeds" in results else results
  if measured and measured.get("step", loaded.step) != loaded.step:
    console.print(f"{workdir / 'results.json'} is of another epoch than the model: --mode=evaluate measures this one")
  return loaded


def first_seed(seed: TrainedModel, workdir: Path) -> TrainedModel:
  """Returns the first seed of a run on one device; prints which it is if there are several."""
  saved = records.read_config(workdir)
  if saved.train.num_seeds > 1:
    console.print(f"of seed {saved.seed}, the first of {saved.train.num_seeds}:")
  return seed.on_one_device()


def load_seed(config: ConfigDict, workdir: Path, index: int = 0) -> TrainedModel:
  """Loads a seed's model from the workdir's model.npz, on one device.

  Args:
    config: of the workdir; its seed decides what is drawn from the model.
    index: of the seed among those trained together.

  Raises:
    UsageError: there is no model.npz.
    RunError: it is damaged, of a later format, or no file of this config.
  """
  saved = weights.read_weights(workdir)
  if saved is None:
    remedy = "--mode=train writes one after its first epoch"
    if any((workdir / "checkpoints").glob("[0-9]*")):
      remedy = "--mode=evaluate writes it from the checkpoints"
    raise UsageError(f"No trained model in {workdir}: there is no {weights.WEIGHTS_NAME}. {remedy}.")
  config = single_seed_config(config, index)
  model = models.create_model(config.model, saved.image_shape)
  own = variable_shapes(model)
  if index >= len(saved.steps) or weights.describe(to_state_dict(own), 0) != weights.describe(saved.variables, 1):
    raise RunError(
      f"{workdir / weights.WEIGHTS_NAME} is not of {workdir / 'config.json'}: --mode=evaluate writes it anew"
    )
  variables = from_state_dict(own, jax.tree.map(lambda x: jnp.asarray(x[index]), saved.variables))
  return TrainedModel(
    config, model, create_inference_fns(config, model), create_rng_streams(config), variables, saved.steps[index]
  )


def variable_shapes(model: Model) -> Variables:
  """Shapes and types of a model's variables."""

  def init(init_key, sample_key):
    return {"batch_stats": {}} | model.init(init_key, jnp.zeros((1, *model.image_shape)), sample_key)

  return jax.eval_shape(init, *jax.random.split(jax.random.key(0)))
