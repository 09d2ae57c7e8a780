"""Trained models from the checkpoints with the highest validation bound."""

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
  """Yields the model of every seed from its best checkpoint in `workdir`.

  Raises:
    UsageError: There is no checkpoint.
    RunError: A checkpoint cannot be read.
  """
  checkpoints = Checkpointer(workdir / "checkpoints", read_only=True)
  if not checkpoints.best_steps:
    if (workdir / weights.WEIGHTS_NAME).exists():
      raise UsageError(
        f"{workdir} has no checkpoint. Its {weights.WEIGHTS_NAME} suffices for sample, encode, explore and export."
      )
    raise UsageError(f"{workdir} has no checkpoint yet. --mode=train writes one after every epoch.")
  return select_best(experiment, checkpoints, experiment.train_fns.init(experiment.keys.init))


def select_best(experiment: Experiment, checkpoints: Checkpointer, template: TrainState) -> Iterator[TrainedModel]:
  """Yields the model of every seed from its best checkpoint.

  Args:
    experiment: The experiment of the run.
    checkpoints: Open checkpoints, at least one of them validated.
    template: A state of the experiment.
  """
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
  """Opens model.npz for updates during training, after updating it to the best checkpoints.

  Args:
    experiment: The experiment of the run.
    checkpoints: Checkpoints of the run, possibly none.
    template: A state of the experiment.
    workdir: Directory of model.npz.

  Raises:
    RunError: A checkpoint cannot be read, or model.npz cannot be written.
  """
  config, best = experiment.config, checkpoints.best_steps
  seeds = range(config.seed, config.seed + config.train.num_seeds)
  best_weights = BestWeights(workdir, experiment.data.image_shape, seeds, template)
  outdated = {step for step, current in zip(best, best_weights.steps, strict=False) if step != current}
  for step in sorted(outdated):  # none before the first checkpoint
    best_weights.update(checkpoints.restore(step, template), best)
  return best_weights
