"""--mode=evaluate: measures the best checkpoint of a workdir, and keeps numbers and weights."""

import time
from collections.abc import Sequence
from pathlib import Path

import jax
from ml_collections import ConfigDict

from latentjax import models
from latentjax.data.dataset import Dataset
from latentjax.inference import evaluation
from latentjax.inference.trained_model import TrainedModel
from latentjax.models.base import num_parameters
from latentjax.runtime import distributed
from latentjax.runtime.console import console, progress
from latentjax.training import restore
from latentjax.training.experiment import Experiment, create_experiment
from latentjax.workdir import plots, records, weights
from latentjax.workdir.metrics_log import read_metrics
from latentjax.workdir.protocol import MetricsRow, aggregate_seeds, protocol_of
from latentjax.workdir.tables import results_table


def run(config: ConfigDict, workdir: Path) -> None:
  """Evaluates the best checkpoint of `workdir`; the config's seed may be another, which then decides the noise here.

  With `eval.num_examples` above 0 it prints the table and writes nothing.

  Raises:
    UsageError: there is none, or the workdir holds a different experiment.
    RunError: it cannot be read, the workdir not be written, or the images are not those that it was trained on.
  """
  records.check_same_experiment(workdir, config, ("seed", *models.performance_keys(config.model)))
  quick = config.eval.num_examples > 0
  if not quick:
    distributed.on_process_zero(lambda: records.check_writable(workdir))
  experiment = create_experiment(config)
  records.check_same_data(workdir, config.data.name, experiment.data.sha256)
  lines = read_metrics(workdir)  # first: a training beside this may go on
  of_seeds = list(restore.restore_best(experiment, workdir))
  if quick:
    print_results(experiment, measure_run(experiment, of_seeds, lines, workdir))
    console.print("eval.num_examples is above 0: nothing is written")
  else:
    evaluate_and_write(experiment, of_seeds, lines, workdir)


def evaluate_and_write(
  experiment: Experiment, of_seeds: Sequence[TrainedModel], lines: Sequence[MetricsRow], workdir: Path
) -> None:
  """Measures a run, prints the table, and writes model.npz, groups.png and results.json.

  Args:
    of_seeds, lines: as for `measure_run`.
  """
  results = measure_run(experiment, of_seeds, lines, workdir)

  def write() -> None:
    print_results(experiment, results)
    first, steps = records.read_config(workdir).seed, [one.step for one in of_seeds]
    variables = [distributed.first_shard(one.variables) for one in of_seeds]
    weights.write_weights(workdir, experiment.data.image_shape, range(first, first + len(steps)), steps, variables)
    plots.save_groups(workdir / "groups.png", {experiment.config.model.name: results["test"]})
    records.write_results(workdir, results)
    for name in ("results.json", "groups.png", weights.WEIGHTS_NAME):
      console.print(f"  {workdir / name}")

  distributed.on_process_zero(write)


def measure_run(
  experiment: Experiment, of_seeds: Sequence[TrainedModel], lines: Sequence[MetricsRow], workdir: Path
) -> MetricsRow:
  """Returns the content of results.json.

  Args:
    of_seeds: every seed of the run.
    lines: of metrics.jsonl, where the checkpoints were when these were taken from them.
  """
  began = time.perf_counter()
  first = records.read_config(workdir).seed  # that of the experiment may be another, for other noise
  per_seed = {
    seed: measure_seed(one, experiment.data) | {"step": one.step, "epoch": one.step // experiment.steps_per_epoch}
    for seed, one in enumerate(of_seeds, start=first)
  }
  return (
    result_labels(experiment.config)
    | aggregate_seeds(per_seed)
    | {
      "epochs_trained": lines[-1]["epoch"] if lines else None,
      "train_minutes": lines[-1]["seconds"] / 60 if lines else None,
      "parameters": num_parameters(of_seeds[0].variables["params"]),
      "evaluate_minutes": (time.perf_counter() - began) / 60,
      "device": str(jax.devices()[0].device_kind),
    }
  )


def result_labels(config: ConfigDict) -> MetricsRow:
  """What the numbers are of."""
  return {
    "model": models.display_name(config.model),
    "likelihood": protocol_of(config).metric_names.likelihood,
    "data": config.data.name,
    "binarization": config.data.binarization,
  }


def print_results(experiment: Experiment, results: MetricsRow) -> None:
  """Prints what was measured."""
  test, metric_names = results["test"], protocol_of(experiment.config).metric_names
  epoch = "each seed at its best epoch" if "seeds" in results else f"epoch {results['epoch']}"
  console.print(results_table(f"{experiment.config.model.name}, {epoch}", results, metric_names))
  if test["num_examples"] < len(experiment.data.test):
    console.print(f"on the first {test['num_examples']:,} images of each split only: no number to report")
  console.print(f"{metric_names.nll} by K: " + ", ".join(f"{nll:.2f} (K = {k})" for k, nll in test["nll_curve"]))


def measure_seed(one: TrainedModel, data: Dataset) -> MetricsRow:
  """The bound on every split; on test also the active units and the log-likelihood. Nats per image."""
  metric_names = protocol_of(one.config).metric_names
  config, inference, variables, keys = one.config.eval, one.inference, one.variables, one.keys
  splits, results = data.eval_splits(config.num_examples or None), {}
  for split, images in splits.items():
    numbers = evaluation.evaluate_elbo(inference, variables, images, keys.evaluate, config.batch_size)
    results[split] = {**numbers, "num_examples": len(images)}
  test = splits["test"]
  results["test"]["active_units"] = evaluation.active_units(inference, variables, test, config.batch_size)
  with progress() as bar:
    task = bar.add_task(
      f"test {metric_names.nll}, K = {config.nll_samples}", total=len(test) * config.nll_samples, note="samples"
    )
    results["test"] |= evaluation.negative_log_likelihood(
      inference,
      variables,
      test,
      keys.likelihood,
      config.batch_size,
      config.nll_samples,
      report=lambda count: bar.update(task, advance=count),
    )
  return {split: metric_names.in_bits(numbers, data.image_shape) for split, numbers in results.items()}
