"""What a config describes, made: its data, its model, its compiled functions and its random streams."""

import dataclasses
from functools import cached_property
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from latentjax import models
from latentjax.data import dataset
from latentjax.data.feed import Feed, create_feed
from latentjax.errors import UsageError
from latentjax.mesh import create_mesh
from latentjax.training.compiled import Inference, Steps, create_inference, create_steps


class Keys(NamedTuple):
  """The independent random streams of a run, all from its seed; [S] where S seeds are trained together."""

  init: jax.Array
  order: jax.Array
  train: jax.Array
  evaluate: jax.Array
  sample: jax.Array
  likelihood: jax.Array
  statistics: jax.Array


@dataclasses.dataclass(frozen=True)
class Experiment:
  """Everything that training and evaluation need; see `create`."""

  config: ConfigDict
  data: dataset.Dataset
  model: models.Model
  mesh: Mesh | None
  inference: Inference
  steps: Steps
  keys: Keys

  @property
  def steps_per_epoch(self) -> int:
    """Full batches in the training set; what is left over differs from epoch to epoch."""
    return len(self.data.train) // self.config.train.batch_size

  def feed(self) -> Feed:
    """Brings the training images to the devices; one that keeps them there frees them when it is dropped."""
    train = self.config.train
    placement = self.config.data.placement if train.num_seeds == 1 else "device"  # each seed has an order of its own
    return create_feed(placement, self.data.train, train.batch_size, train.steps_per_call, self.mesh)

  @cached_property
  def by_seed(self) -> list["Experiment"]:
    """The single runs that this one amounts to, one of each seed; they share what they compile."""
    if self.config.train.num_seeds == 1:
      return [self]
    configs = [config_of_seed(self.config, index) for index in range(self.config.train.num_seeds)]
    inference = create_inference(configs[0], self.model, self.mesh)
    steps = create_steps(configs[0], self.model, len(self.data.train), self.mesh)
    return [
      dataclasses.replace(self, config=config, inference=inference, steps=steps, keys=create_keys(config))
      for config in configs
    ]


def create(config: ConfigDict) -> Experiment:
  """Loads the data and builds the model that a checked config describes.

  Raises:
    UsageError: the data do not fit the config.
    RunError: the data cannot be had.
  """
  data = dataset.load(**config.data.to_dict())
  if len(data.train) == 0:
    raise UsageError(f"{config.data.name} has too few images: beside validation and test none is left to train on")
  if config.train.batch_size > len(data.train):
    plural = "s" if len(data.train) > 1 else ""
    raise UsageError(
      f"train.batch_size = {config.train.batch_size} is larger than the {len(data.train)} training image{plural}"
      f" of {config.data.name}, beside those for validation and test"
    )
  if data.in_scenes and config.train.batch_size < 2:
    raise UsageError(f"{config.data.name} pairs the images of a batch: train.batch_size must be at least 2")
  model = models.create(config.model, data.image_shape)
  mesh = create_mesh()
  return Experiment(
    config=config,
    data=data,
    model=model,
    mesh=mesh,
    inference=create_inference(config, model, mesh),
    steps=create_steps(config, model, len(data.train), mesh),
    keys=create_keys(config),
  )


def config_of_seed(config: ConfigDict, index: int) -> ConfigDict:
  """The config of the single run that a run of several seeds amounts to for one of them."""
  config = config.copy_and_resolve_references()
  config.seed += index
  config.train.num_seeds = 1
  return config


def create_keys(config: ConfigDict) -> Keys:
  """The streams of a run: for every seed those that a single run with it has."""

  def of_seed(seed):
    return Keys(*jax.random.split(jax.random.key(seed), len(Keys._fields)))

  if config.train.num_seeds == 1:
    return of_seed(config.seed)
  return jax.vmap(of_seed)(np.arange(config.seed, config.seed + config.train.num_seeds, dtype=np.uint32))
