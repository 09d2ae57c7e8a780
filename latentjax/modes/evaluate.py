"""--mode=evaluate: the numbers of a workdir's best checkpoint, written to results.json."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from latentjax import experiment as experiments
from latentjax import models, processes
from latentjax.console import console, progress, results_table
from latentjax.data.dataset import binarize_once
from latentjax.errors import UsageError
from latentjax.experiment import Experiment
from latentjax.training import evaluation
from latentjax.training.state import TrainState
from latentjax.workdir import plots, record, seeds
from latentjax.workdir.checkpoint import Checkpoints


class Trained(NamedTuple):
  """One seed's experiment, as if it had been trained alone, with its best state, settled."""

  experiment: Experiment
  state: TrainState


def run(config: ConfigDict, workdir: Path) -> None:
  """Evaluates the best checkpoint of `workdir`.

  Raises:
    UsageError: there is none.
    RunError: it cannot be read.
  """
  experiment = reopen(config, workdir)
  finish(list(restore_best(experiment, workdir)), workdir)


def reopen(config: ConfigDict, workdir: Path) -> Experiment:
  """The experiment that a workdir holds; only its seed may differ, which then decides the noise drawn here."""
  record.require_same(workdir, config, ("seed", *models.speed_keys(config.model)))
  return experiments.create(config)


def restore_best(experiment: Experiment, workdir: Path) -> Iterator[Trained]:
  """Every seed with the state of its highest validation ELBO that a workdir holds.

  Raises:
    UsageError: it holds none.
    RunError: one cannot be read.
  """
  like = experiment.steps.init(experiment.keys.init)
  checkpoints = Checkpoints(workdir / "checkpoints", read_only=True)
  if not checkpoints.best:
    raise UsageError(f"{workdir} has no checkpoint yet: --mode=train writes one after every epoch")
  return pick_best(experiment, checkpoints, like)


def pick_best(experiment: Experiment, checkpoints: Checkpoints, like: TrainState) -> Iterator[Trained]:
  """As `restore_best`, from checkpoints that are open and have been validated.

  Args:
    like: a state of the experiment.
  """
  alone = experiment.by_seed()
  for index, (one, step) in enumerate(zip(alone, checkpoints.best, strict=True)):
    state = checkpoints.restore(step, like)
    yield Trained(one, settle(one, state if len(alone) == 1 else state.of_seed(index)))


def settle(experiment: Experiment, state: TrainState) -> TrainState:
  """The state as it is evaluated: batch-norm statistics collected again, over an epoch of training batches."""
  if not state.stats:
    return state
  steps, keys = experiment.steps, experiment.keys
  order = steps.order(keys.order, int(state.step) // experiment.steps_per_epoch)
  first, total = 0, jax.tree.map(jnp.zeros_like, state.stats)
  for count, images, order_of_call in experiment.feed().calls(order, first):
    total = steps.collect(total, state, images, order_of_call, keys.collect, jnp.int32(first), jnp.int32(count))
    first += count
  return state.replace(stats=jax.tree.map(lambda x: x / experiment.steps_per_epoch, total))


def finish(trained: Sequence[Trained], workdir: Path) -> None:
  """Writes results.json and groups.png, and prints the table.

  Args:
    trained: every seed of the run.
  """
  began = time.perf_counter()
  experiment, state = trained[0]
  first = record.read_config(workdir).seed  # that of `experiment` may be another, for other noise
  results = seeds.summarise({seed: measure(*one) for seed, one in enumerate(trained, start=first)})
  results |= {
    "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
    "evaluate_minutes": (time.perf_counter() - began) / 60,
    "device": str(jax.devices()[0].device_kind),
  }
  processes.once(lambda: report(experiment, results, workdir))


def report(experiment: Experiment, results: record.Line, workdir: Path) -> None:
  """Keeps and prints what was measured."""
  lines = record.read_lines(workdir)
  results |= {
    "epochs_trained": lines[-1]["epoch"] if lines else None,
    "train_minutes": lines[-1]["seconds"] / 60 if lines else None,
  }
  test = results["test"]
  plots.save_groups(workdir / "groups.png", {experiment.config.model.name: test})
  record.write_results(workdir, results)
  epoch = "each seed at its best epoch" if "seeds" in results else f"epoch {results['epoch']}"
  console.print(results_table(f"{experiment.config.model.name}, {epoch}", results))
  if test["num_examples"] < len(experiment.data.test):
    console.print(f"on the first {test['num_examples']:,} images of each split only: no number to report")
  console.print("NLL by K: " + ", ".join(f"{nll:.2f} (K = {k})" for k, nll in test["nll_curve"]))
  for name in ("results.json", "groups.png"):
    console.print(f"  {workdir / name}")


def measure(experiment: Experiment, state: TrainState) -> record.Line:
  """The bound on every split; on test also the active units and the log-likelihood. Nats per image.

  `step` and `epoch` say which state was measured.
  """
  config, data, steps, keys = experiment.config.eval, experiment.data, experiment.steps, experiment.keys
  limit = config.num_examples or None
  train = data.first(limit)
  splits = {
    "train": binarize_once(train, "train") if data.binarization == "dynamic" else train,
    "validation": data.validation[:limit],
    "test": data.test[:limit],
  }
  results = {}
  for split, images in splits.items():
    numbers = evaluation.bound(steps, state.variables, images, keys.evaluate, config.batch_size)
    results[split] = {**numbers, "num_examples": len(images)}
  test = splits["test"]
  results["test"]["active_units"] = evaluation.active_units(steps, state.variables, test, config.batch_size)
  with progress() as bar:
    task = bar.add_task(f"test NLL, K = {config.nll_samples}", total=len(test) * config.nll_samples, note="samples")
    results["test"] |= evaluation.negative_log_likelihood(
      steps,
      state.variables,
      test,
      keys.likelihood,
      config.batch_size,
      config.nll_samples,
      report=lambda count: bar.update(task, advance=count),
    )
  return {**results, "step": int(state.step), "epoch": int(state.step) // experiment.steps_per_epoch}
