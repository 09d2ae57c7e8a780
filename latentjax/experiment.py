"""What a config describes, made: its data, its model, its compiled steps and its random streams."""

import dataclasses
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from latentjax import models
from latentjax.data import dataset
from latentjax.errors import UsageError
from latentjax.training.step import Steps, create_steps


class Keys(NamedTuple):
  """The independent random streams of a run, all from its seed."""

  init: jax.Array
  order: jax.Array
  train: jax.Array
  evaluate: jax.Array
  sample: jax.Array
  likelihood: jax.Array
  collect: jax.Array


@dataclasses.dataclass(frozen=True)
class Experiment:
  """Everything a mode needs; see `create`."""

  config: ConfigDict
  data: dataset.Dataset
  model: models.Model
  steps: Steps
  keys: Keys

  @property
  def steps_per_epoch(self) -> int:
    """Full batches in the training set; what is left over differs from epoch to epoch."""
    return len(self.data.train) // self.config.train.batch_size


def create(config: ConfigDict) -> Experiment:
  """Loads the data and builds the model that a checked config describes.

  Raises:
    UsageError: the data do not fit the config.
    RunError: the data cannot be had.
  """
  data = dataset.load(config.data.name, config.data.binarization)
  if config.train.batch_size > len(data.train):
    raise UsageError(
      f"train.batch_size = {config.train.batch_size} is larger than the {len(data.train)} training images"
      f" of {config.data.name}"
    )
  model = models.create(config.model, data.image_shape)
  keys = Keys(*jax.random.split(jax.random.key(config.seed), len(Keys._fields)))
  return Experiment(config, data, model, create_steps(config, model, len(data.train)), keys)
