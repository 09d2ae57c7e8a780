"""States and trained models from the checkpoints of a run."""

from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp

from latentjax.inference.trained_model import TrainedModel
from latentjax.runtime import distributed
from latentjax.training.experiment import Experiment
from latentjax.training.metrics import Metrics
from latentjax.training.state import TrainState
from latentjax.training.trainer import EpochProgress
from latentjax.workdir.checkpoints import Checkpointer
from latentjax.workdir.weights import BestWeights


def initial_state(experiment: Experiment) -> TrainState:
  """Returns the state before the first step, initialized to mean and scale of the training images."""
  pixels = experiment.data.mean_pixels(), experiment.data.std_pixels()
  return experiment.train_fns.init(experiment.keys.init, distributed.broadcast(pixels))


def restore_state(experiment: Experiment, checkpoints: Checkpointer) -> tuple[TrainState, EpochProgress]:
  """Returns the state and partial epoch of the newest checkpoint, or those before the first step."""
  newest, partial_epoch = checkpoints.latest_step, EpochProgress(Metrics.zero(experiment.config.train.num_seeds))
  if newest is None:
    return initial_state(experiment), partial_epoch
  state = checkpoints.restore(newest, experiment.train_fns.init(experiment.keys.init))
  return state, checkpoints.restore_partial(newest, partial_epoch) or partial_epoch


def select_best(experiment: Experiment, checkpoints: Checkpointer, template: TrainState) -> Iterator[TrainedModel]:
  """Yields the model of every seed from its best checkpoint; `template` is any state of the experiment."""
  per_seed = experiment.per_seed
  for index, (single, step) in enumerate(zip(per_seed, checkpoints.best_steps, strict=True)):
    state = checkpoints.restore(step, template)
    state = recompute_batch_statistics(single, state if len(per_seed) == 1 else state.of_seed(index))
    yield TrainedModel(single.config, single.model, single.inference, single.keys, state.variables, int(state.step))


def recompute_batch_statistics(experiment: Experiment, state: TrainState) -> TrainState:
  """Recomputes batch-norm statistics of the evaluated weights over one epoch of training batches."""
  if not state.stats:
    return state
  train_fns, key = experiment.train_fns, experiment.keys.statistics
  order = train_fns.order(experiment.keys.order, int(state.step) // experiment.steps_per_epoch)
  first, total = 0, jax.tree.map(jnp.zeros_like, state.stats)
  for count, images, chunk_order in experiment.feed().chunks(order, first):
    total = train_fns.add_batch_statistics(total, state, images, chunk_order, key, jnp.int32(first), count)
    first += count
  return state.replace(stats=jax.tree.map(lambda x: x / experiment.steps_per_epoch, total))


def open_weights(experiment: Experiment, checkpoints: Checkpointer, template: TrainState, workdir: Path) -> BestWeights:
  """Returns a writer of the weights files in `workdir`, after writing the weights of the best checkpoints."""
  config, best = experiment.config, checkpoints.best_steps
  seeds = range(config.seed, config.seed + config.train.num_seeds)
  best_weights = BestWeights(workdir, experiment.data.image_shape, seeds)
  for step in sorted({*best}):  # none before the first validation
    best_weights.update(checkpoints.restore(step, template), best)
  return best_weights
