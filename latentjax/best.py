"""The states of a run with the highest validation bound, made into trained models as they are evaluated."""

from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from latentjax import experiment as experiments
from latentjax import models, trained
from latentjax.console import console
from latentjax.errors import UsageError
from latentjax.experiment import Experiment
from latentjax.trained import Trained
from latentjax.training.compiled import create_inference, create_steps
from latentjax.training.state import TrainState
from latentjax.workdir import record, weights
from latentjax.workdir.checkpoint import Checkpoints


def restore(experiment: Experiment, workdir: Path) -> Iterator[Trained]:
  """Every seed at the best checkpoint that a workdir holds.

  Raises:
    UsageError: it holds none.
    RunError: one cannot be read.
  """
  return pick(experiment, open_checkpoints(workdir), experiment.steps.init(experiment.keys.init))


def pick(experiment: Experiment, checkpoints: Checkpoints, like: TrainState) -> Iterator[Trained]:
  """As `restore`, from checkpoints that are open and have been validated.

  Args:
    like: a state of the experiment.
  """
  by_seed = experiment.by_seed
  for index, (one, step) in enumerate(zip(by_seed, checkpoints.best, strict=True)):
    state = checkpoints.restore(step, like)
    state = recompute_batch_statistics(one, state if len(by_seed) == 1 else state.of_seed(index))
    yield Trained(one.config, one.model, one.inference, one.keys, state.variables, int(state.step))


def recompute_batch_statistics(experiment: Experiment, state: TrainState) -> TrainState:
  """The state with the batch-norm statistics of its evaluated weights, over an epoch of training batches."""
  if not state.stats:
    return state
  steps, keys = experiment.steps, experiment.keys
  order = steps.order(keys.order, int(state.step) // experiment.steps_per_epoch)
  first, total = 0, jax.tree.map(jnp.zeros_like, state.stats)
  for count, images, order_of_call in experiment.feed().calls(order, first):
    total = steps.add_batch_statistics(total, state, images, order_of_call, keys.statistics, jnp.int32(first), count)
    first += count
  return state.replace(stats=jax.tree.map(lambda x: x / experiment.steps_per_epoch, total))


def open_seed(config: ConfigDict, workdir: Path, index: int = 0) -> Trained:
  """A seed of a run, ready to be asked: as it was last evaluated, or else at its best checkpoint so far.

  Needs the data only where a model with batch norm has not been evaluated yet, or latentjax before format 1 wrote the
  workdir.

  Args:
    index: of the seed among those trained together.

  Raises:
    UsageError: it has no checkpoint yet.
    RunError: a file is damaged, or the data are needed and cannot be had.
  """
  evaluated = trained.read(config, workdir, index)
  if evaluated is not None:
    results, lines = record.read_results(workdir), record.read_lines(workdir)
    if results is not None and lines and lines[-1]["epoch"] != results.get("epochs_trained"):
      console.print(f"{workdir} has trained on since it was evaluated: --mode=evaluate brings model.npz up to date")
    return evaluated
  checkpoints, image_shape = open_checkpoints(workdir), record.read_image_shape(workdir)
  if image_shape is not None:
    model, keys = models.create(config.model, image_shape), experiments.create_keys(config)
    steps = create_steps(config, model, num_images=config.train.batch_size)  # a state knows nothing of how many
    state = checkpoints.restore(checkpoints.best[index], steps.init(keys.init))
    if not state.stats:
      state = state if config.train.num_seeds == 1 else state.of_seed(index)
      config = experiments.config_of_seed(config, index)
      keys, inference = experiments.create_keys(config), create_inference(config, model)
      return Trained(config, model, inference, keys, state.variables, int(state.step))
  experiment = experiments.create(config)
  record.require_same_images(workdir, config.data.name, experiment.data.sha256)
  return list(restore(experiment, workdir))[index]


def open_first(config: ConfigDict, workdir: Path) -> Trained:
  """As `open_seed`, of the first seed, by `first`."""
  return first(open_seed(config, workdir), workdir)


def first(seed: Trained, workdir: Path) -> Trained:
  """The first seed of a run, on one device; says which that is where there are several."""
  saved = record.read_config(workdir)
  if saved.train.num_seeds > 1:
    console.print(f"of seed {saved.seed}, the first of {saved.train.num_seeds}:")
  return seed.on_one_device()


def open_checkpoints(workdir: Path) -> Checkpoints:
  checkpoints = Checkpoints(workdir / "checkpoints", read_only=True)
  if not checkpoints.best:
    if (workdir / weights.NAME).exists():
      raise UsageError(f"{workdir} has no checkpoint: its {weights.NAME} serves sample, encode, explore and export")
    raise UsageError(f"{workdir} has no checkpoint yet: --mode=train writes one after every epoch")
  return checkpoints
