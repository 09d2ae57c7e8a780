"""What a config describes, made: its data, its model, its compiled functions and its random streams."""

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


@dataclasses.dataclass(frozen=True)
class Experiment:
  """Everything that training and evaluation need; see `create`."""

  config: ConfigDict
  data: dataset.Dataset
  model: base.Model
  mesh: Mesh | None
  inference: InferenceFns
  steps: TrainFns
  keys: RngStreams

  @property
  def steps_per_epoch(self) -> int:
    """Full batches in the training set; what is left over differs from epoch to epoch."""
    return len(self.data.train) // self.config.train.batch_size

  def feed(self) -> BatchFeed:
    """Brings the training images to the devices; one that keeps them there frees them when it is dropped."""
    train = self.config.train
    placement = self.config.data.placement if train.num_seeds == 1 else "device"  # each seed has an order of its own
    return create_feed(placement, self.data.train, train.batch_size, train.steps_per_call, self.mesh)

  @cached_property
  def per_seed(self) -> list["Experiment"]:
    """The single runs that this one amounts to, one of each seed; they share what they compile."""
    if self.config.train.num_seeds == 1:
      return [self]
    configs = [single_seed_config(self.config, index) for index in range(self.config.train.num_seeds)]
    inference = create_inference_fns(configs[0], self.model, self.mesh)
    steps = create_train_fns(configs[0], self.model, len(self.data.train), self.mesh)
    return [
      dataclasses.replace(self, config=config, inference=inference, steps=steps, keys=create_rng_streams(config))
      for config in configs
    ]


def create_experiment(config: ConfigDict) -> Experiment:
  """Loads the data and builds the model that a checked config describes.

  Raises:
    UsageError: the data do not fit the config.
    RunError: the data cannot be had.
  """
  data = dataset.load_dataset(**config.data.to_dict())
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
  model = models.create_model(config.model, data.image_shape)
  mesh = create_mesh()
  return Experiment(
    config=config,
    data=data,
    model=model,
    mesh=mesh,
    inference=create_inference_fns(config, model, mesh),
    steps=create_train_fns(config, model, len(data.train), mesh),
    keys=create_rng_streams(config),
  )
