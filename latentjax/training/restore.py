"""Trained models from the checkpoints of a run with the highest validation bound."""

from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp

from latentjax.inference.trained_model import TrainedModel
from latentjax.runtime.errors import UsageError
from latentjax.training.experiment import Experiment
from latentjax.training.state import TrainState
from latentjax.workdir import weights
from latentjax.workdir.checkpoints import Checkpointer
from latentjax.workdir.weights import BestWeights


def restore_best(experiment: Experiment, workdir: Path) -> Iterator[TrainedModel]:
  """Every seed at the best checkpoint that a workdir holds.

  Raises:
    UsageError: it holds none.
    RunError: one cannot be read.
  """
  checkpoints = Checkpointer(workdir / "checkpoints", read_only=True)
  if not checkpoints.best:
    if (workdir / weights.WEIGHTS_NAME).exists():
      raise UsageError(
        f"{workdir} has no checkpoint: its {weights.WEIGHTS_NAME} serves sample, encode, explore and export"
      )
    raise UsageError(f"{workdir} has no checkpoint yet: --mode=train writes one after every epoch")
  return select_best(experiment, checkpoints, experiment.steps.init(experiment.keys.init))


def select_best(experiment: Experiment, checkpoints: Checkpointer, like: TrainState) -> Iterator[TrainedModel]:
  """As `restore`, from checkpoints that are open and have been validated.

  Args:
    like: a state of the experiment.
  """
  per_seed = experiment.per_seed
  for index, (one, step) in enumerate(zip(per_seed, checkpoints.best, strict=True)):
    state = checkpoints.restore(step, like)
    state = recompute_batch_statistics(one, state if len(per_seed) == 1 else state.of_seed(index))
    yield TrainedModel(one.config, one.model, one.inference, one.keys, state.variables, int(state.step))


def recompute_batch_statistics(experiment: Experiment, state: TrainState) -> TrainState:
  """The state with the batch-norm statistics of its evaluated weights, over an epoch of training batches."""
  if not state.stats:
    return state
  steps, keys = experiment.steps, experiment.keys
  order = steps.order(keys.order, int(state.step) // experiment.steps_per_epoch)
  first, total = 0, jax.tree.map(jnp.zeros_like, state.stats)
  for count, images, order_of_call in experiment.feed().chunks(order, first):
    total = steps.add_batch_statistics(total, state, images, order_of_call, keys.statistics, jnp.int32(first), count)
    first += count
  return state.replace(stats=jax.tree.map(lambda x: x / experiment.steps_per_epoch, total))


def open_weights(experiment: Experiment, checkpoints: Checkpointer, like: TrainState, workdir: Path) -> BestWeights:
  """Opens the model.npz that a training updates, and brings it up to date with the best checkpoints.

  Args:
    like: a state of the experiment.

  Raises:
    RunError: a checkpoint cannot be read, or the disk refuses.
  """
  config, best = experiment.config, checkpoints.best
  seeds = range(config.seed, config.seed + config.train.num_seeds)
  kept = BestWeights(workdir, experiment.data.image_shape, seeds, like)
  for step in sorted({step for step, held in zip(best, kept.steps, strict=False) if step != held}):  # none at first
    kept.update(checkpoints.restore(step, like), best)
  return kept
