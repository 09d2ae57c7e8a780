"""--mode=evaluate: the numbers of a workdir's best checkpoint, written to results.json."""

import time
from pathlib import Path

import jax
from ml_collections import ConfigDict

from latentjax import experiment as experiments
from latentjax.console import console, progress, results_table
from latentjax.data.dataset import binarize_once
from latentjax.errors import UsageError
from latentjax.experiment import Experiment
from latentjax.training import evaluation
from latentjax.training.state import TrainState
from latentjax.workdir import plots, record
from latentjax.workdir.checkpoint import Checkpoints


def run(config: ConfigDict, workdir: Path) -> None:
  """Evaluates the best checkpoint of `workdir`.

  Raises:
    UsageError: there is none.
    RunError: it cannot be read.
  """
  experiment = reopen(config, workdir)
  finish(experiment, settle(experiment, restore_best(experiment, workdir)), workdir)


def reopen(config: ConfigDict, workdir: Path) -> Experiment:
  """The experiment that a workdir holds; only its seed may differ, which then decides the noise drawn here."""
  record.require_same(workdir, config, ignore=("seed",))
  return experiments.create(config)


def restore_best(experiment: Experiment, workdir: Path) -> TrainState:
  """The state with the highest validation ELBO that a workdir holds.

  Raises:
    UsageError: it holds none.
    RunError: it cannot be read.
  """
  like = experiment.steps.init(experiment.keys.init)
  checkpoints = Checkpoints(workdir / "checkpoints", read_only=True)
  if checkpoints.best is not None:
    return checkpoints.restore(checkpoints.best, like)
  raise UsageError(f"{workdir} has no checkpoint yet: --mode=train writes one after every epoch")


def settle(experiment: Experiment, state: TrainState) -> TrainState:
  """The state as it is evaluated: batch-norm statistics collected again, over an epoch of training batches."""
  if not state.stats:
    return state
  steps, keys = experiment.steps, experiment.keys
  order = steps.order(keys.order, int(state.step) // experiment.steps_per_epoch)
  return steps.collect(state, experiment.data.train, order, keys.collect)


def finish(experiment: Experiment, state: TrainState, workdir: Path) -> None:
  """Writes results.json and groups.png, and prints the table.

  Args:
    state: settled.
  """
  began = time.perf_counter()
  results = measure(experiment, state)
  lines = record.read_lines(workdir)
  results |= {
    "step": int(state.step),
    "epoch": int(state.step) // experiment.steps_per_epoch,
    "epochs_trained": lines[-1]["epoch"] if lines else None,
    "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
    "train_minutes": lines[-1]["seconds"] / 60 if lines else None,
    "evaluate_minutes": (time.perf_counter() - began) / 60,
    "device": str(jax.devices()[0].device_kind),
  }
  test = results["test"]
  plots.save_groups(workdir / "groups.png", {experiment.config.model.name: test})
  record.write_results(workdir, results)
  console.print(results_table(f"{experiment.config.model.name}, epoch {results['epoch']}", results))
  if test["num_examples"] < len(experiment.data.test):
    console.print(f"on the first {test['num_examples']:,} images of each split only: no number to report")
  console.print("NLL converges: " + ", ".join(f"{nll:.2f} (K = {k})" for k, nll in test["nll_curve"]))
  for name in ("results.json", "groups.png"):
    console.print(f"  {workdir / name}")


def measure(experiment: Experiment, state: TrainState) -> dict[str, dict]:
  """The bound on every split; on test also the active units and the log-likelihood. Nats per image."""
  config, data, steps, keys = experiment.config.eval, experiment.data, experiment.steps, experiment.keys
  limit = config.num_examples or None
  train = data.train[:limit]
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
  return results
