"""Experiment built from a config: data, model, compiled functions and random streams."""

import dataclasses
from functools import cached_property

from jax.sharding import Mesh
from ml_collections import ConfigDict

from latentjax import models
from latentjax.config.schema import single_seed_config
from latentjax.data import dataset
from latentjax.data.feed import BatchFeed, create_feed
from latentjax.inference.functions import InferenceFns, create_inference_fns
from latentjax.models import base
from latentjax.runtime.distributed import create_mesh
from latentjax.runtime.errors import UsageError
from latentjax.runtime.rng import RngStreams, create_rng_streams
from latentjax.training.compile import TrainFns, create_train_fns
from latentjax.training.metrics import NO_DIVERGENCE


@dataclasses.dataclass(frozen=True)
class Experiment:
  """Everything that training and evaluation need, see `create_experiment`."""

  config: ConfigDict
  data: dataset.Dataset
  model: base.Model
  mesh: Mesh | None
  inference: InferenceFns
  train_fns: TrainFns
  keys: RngStreams

  @property
  def steps_per_epoch(self) -> int:
    """Number of full batches in the training set; the images left over differ from epoch to epoch."""
    return len(self.data.train) // self.config.train.batch_size

  def feed(self) -> BatchFeed:
    """Creates the feed of training images; one that stores them on the devices frees them when it is deleted."""
    train = self.config.train
    placement = self.config.data.placement if train.num_seeds == 1 else "device"  # because each seed has its own order
    return create_feed(placement, self.data.train, train.batch_size, train.steps_per_call, self.mesh)

  @cached_property
  def per_seed(self) -> list["Experiment"]:
    """Equivalent experiments of one seed each, which share their compiled functions."""
    if self.config.train.num_seeds == 1:
      return [self]
    configs = [single_seed_config(self.config, index) for index in range(self.config.train.num_seeds)]
    inference = create_inference_fns(configs[0], self.model, self.mesh)
    train_fns = create_train_fns(configs[0], self.model, len(self.data.train), self.mesh)
    shared = dataclasses.replace(self, inference=inference, train_fns=train_fns)
    return [dataclasses.replace(shared, config=config, keys=create_rng_streams(config)) for config in configs]


def create_experiment(config: ConfigDict, data: dataset.Dataset | None = None) -> Experiment:
  """Loads the data, unless they are given, and creates the model of a validated config.

  Raises:
    UsageError: The data do not fit the config.
    RunError: The data cannot be loaded.
  """
  data = dataset.load_dataset(**config.data.to_dict()) if data is None else data
  if len(data.train) == 0:
    raise UsageError(f"{config.data.name} has too few images. None are left for training after validation and test.")
  if config.train.batch_size > len(data.train):
    plural = "s" if len(data.train) > 1 else ""
    raise UsageError(
      f"train.batch_size = {config.train.batch_size} is larger than the {len(data.train)} training image{plural}"
      f" of {config.data.name} (without validation and test). Choose a smaller train.batch_size."
    )
  steps = config.train.epochs * (len(data.train) // config.train.batch_size)
  if steps > NO_DIVERGENCE:
    problem = f"train.epochs = {config.train.epochs} takes {steps:,} steps, but at most {NO_DIVERGENCE:,} are counted"
    raise UsageError(f"{problem}. Choose fewer epochs, or a larger train.batch_size.")
  if data.in_scenes and config.train.batch_size < 2:
    raise UsageError(f"{config.data.name} pairs the images of a batch. Set train.batch_size to at least 2.")
  model = models.create_model(config.model, data.image_shape)
  mesh = create_mesh()
  return Experiment(
    config=config,
    data=data,
    model=model,
    mesh=mesh,
    inference=create_inference_fns(config, model, mesh),
    train_fns=create_train_fns(config, model, len(data.train), mesh),
    keys=create_rng_streams(config),
  )
