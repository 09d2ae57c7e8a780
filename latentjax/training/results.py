"""Evaluation of a run: the metrics of every seed's best epoch, and the files that hold them."""

import time
from collections.abc import Sequence

import jax

from latentjax import models
from latentjax.data.dataset import Dataset
from latentjax.inference import evaluation
from latentjax.inference.trained_model import TrainedModel
from latentjax.models.base import num_parameters
from latentjax.runtime import distributed
from latentjax.runtime.console import console, progress
from latentjax.training.experiment import Experiment
from latentjax.workdir import plots, records, weights
from latentjax.workdir.protocol import MetricNames, MetricsRow, aggregate_seeds, finite_metrics
from latentjax.workdir.run import Run
from latentjax.workdir.tables import format_number, results_table


def evaluate_and_write(run: Run, experiment: Experiment, seeds: Sequence[TrainedModel]) -> None:
  """Evaluates every seed of a run, prints the table, and writes weights, results.json and groups.png."""
  # Weights first: a training in progress may write better ones during the evaluation.
  names = distributed.on_process_zero(lambda: write_weights(run, experiment, seeds))
  results = measure_run(run, experiment, seeds)

  def write() -> None:
    print_results(run, experiment, results)
    records.write_results(run.workdir, results)
    for name in ("results.json", *names):
      console.print(f"  {run.workdir / name}")
    plots.save(run.workdir / "groups.png", plots.save_groups, {run.config.model.name: results["test"]})

  distributed.on_process_zero(write)


def write_weights(run: Run, experiment: Experiment, seeds: Sequence[TrainedModel]) -> list[str]:
  """Writes the weights file of every seed of a run, on process 0, and returns their names."""
  names = [weights.weights_name(len(seeds), index) for index in range(len(seeds))]
  for name, seed, trained in zip(names, run.seeds, seeds, strict=True):
    variables = distributed.first_shard(trained.variables)
    weights.write_weights(run.workdir / name, experiment.data.image_shape, seed, trained.step, variables)
  return names


def measure_run(run: Run, experiment: Experiment, seeds: Sequence[TrainedModel]) -> MetricsRow:
  """Returns the content of results.json."""
  start, config, last = time.perf_counter(), run.config, run.lines[-1] if run.lines else None
  per_seed = {}
  for seed, trained in zip(run.seeds, seeds, strict=True):
    owner = f" for seed {seed}" if len(seeds) > 1 else ""
    metrics = finite_metrics(measure_seed(trained, experiment.data, run.metric_names), owner)
    per_seed[seed] = metrics | {"step": trained.step, "epoch": trained.step // experiment.steps_per_epoch}
  return {
    "model": models.display_name(config.model),
    "likelihood": run.metric_names.likelihood,
    "data": config.data.name,
    "binarization": config.data.binarization,
    **aggregate_seeds(per_seed),
    "epochs_trained": last["epoch"] if last else None,
    "train_minutes": last["seconds"] / 60 if last else None,
    "parameters": num_parameters(seeds[0].variables["params"]),
    "evaluate_minutes": (time.perf_counter() - start) / 60,
    "device": str(jax.devices()[0].device_kind),
  }


def print_results(run: Run, experiment: Experiment, results: MetricsRow) -> None:
  test = results["test"]
  epoch = "each seed at its best epoch" if "seeds" in results else f"epoch {results['epoch']}"
  console.print(results_table(f"{run.config.model.name}, {epoch}", results, run.metric_names))
  if test["num_examples"] < len(experiment.data.test):
    console.print(f"on the first {test['num_examples']:,} images of each split only. Do not report these numbers.")
  curve = ", ".join(f"{format_number(nll)} (K = {k})" for k, nll in test["nll_curve"])
  console.print(f"{run.metric_names.nll} by K: {curve}")


def measure_seed(trained: TrainedModel, data: Dataset, metric_names: MetricNames) -> MetricsRow:
  """Returns the ELBO terms of every split, and the test split's active units and NLL, in nats per image."""
  config, model, keys = trained.config.eval, (trained.inference, trained.variables), trained.keys
  batch_size, num_samples = config.batch_size, config.nll_samples
  splits, results = data.eval_splits(config.num_examples or None), {}
  for split, images in splits.items():
    metrics = evaluation.evaluate_elbo(*model, images, keys.evaluate, batch_size)
    results[split] = {**metrics, "num_examples": len(images)}
  test = splits["test"]
  results["test"]["active_units"] = evaluation.active_units(*model, test, batch_size)
  with progress() as bar:
    task = bar.add_task(f"test {metric_names.nll}, K = {num_samples}", total=len(test) * num_samples, note="samples")
    results["test"] |= evaluation.negative_log_likelihood(
      *model, test, keys.likelihood, batch_size, num_samples, lambda count: bar.update(task, advance=count)
    )
  return {split: metric_names.in_bits(metrics, data.image_shape) for split, metrics in results.items()}
