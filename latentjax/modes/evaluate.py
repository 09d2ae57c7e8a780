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
from latentjax.workdir import record
from latentjax.workdir.checkpoint import Checkpoints


def run(config: ConfigDict, workdir: Path) -> None:
  """Evaluates the best checkpoint of `workdir`.

  Raises:
    UsageError: there is none.
    RunError: it cannot be read.
  """
  experiment = reopen(config, workdir)
  finish(experiment, restore_best(experiment, workdir), workdir)


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


def finish(experiment: Experiment, state: TrainState, workdir: Path) -> None:
  """Writes results.json and prints its table."""
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
  record.write_results(workdir, results)
  console.print(results_table(f"{experiment.config.model.name}, epoch {results['epoch']}", results))
  console.print(f"  {workdir / 'results.json'}")


def measure(experiment: Experiment, state: TrainState) -> dict[str, dict]:
  """The bound on every split and the test log-likelihood, in nats per image."""
  config, data, steps, key = experiment.config, experiment.data, experiment.steps, experiment.keys.evaluate
  dynamic = data.binarization == "dynamic"
  splits = {
    "train": binarize_once(data.train, "train") if dynamic else data.train,
    "validation": data.validation,
    "test": data.test,
  }
  results = {
    split: evaluation.bound(steps, state.eval_params, images, key, config.eval.batch_size)
    for split, images in splits.items()
  }
  with progress() as bar:
    task = bar.add_task(f"test NLL, K = {config.eval.nll_samples}", total=len(data.test), note="images")
    results["test"] |= evaluation.negative_log_likelihood(
      steps,
      state.eval_params,
      data.test,
      experiment.keys.likelihood,
      config.eval.batch_size,
      config.eval.nll_samples,
      report=lambda count: bar.update(task, advance=count),
    )
  return results
