"""--mode=evaluate: measures the best checkpoint of a workdir, and keeps numbers and weights."""

import time
from collections.abc import Sequence
from pathlib import Path

import jax
from ml_collections import ConfigDict

from latentjax import best, models, processes
from latentjax import experiment as experiments
from latentjax.console import console, progress, results_table
from latentjax.data.dataset import Dataset
from latentjax.experiment import Experiment
from latentjax.trained import Trained
from latentjax.training import evaluation
from latentjax.training.state import num_parameters
from latentjax.workdir import plots, record, seeds, weights
from latentjax.workdir.figures import protocol_of


def run(config: ConfigDict, workdir: Path) -> None:
  """Evaluates the best checkpoint of `workdir`; the config's seed may be another, which then decides the noise here.

  With `eval.num_examples` above 0 it prints the table and writes nothing.

  Raises:
    UsageError: there is none, or the workdir holds a different experiment.
    RunError: it cannot be read, the workdir not be written, or the images are not those that it was trained on.
  """
  record.require_same(workdir, config, ("seed", *models.speed_keys(config.model)))
  quick = config.eval.num_examples > 0
  if not quick:
    processes.on_primary(lambda: record.require_writable(workdir))
  experiment = experiments.create(config)
  record.require_same_images(workdir, config.data.name, experiment.data.sha256)
  lines = record.read_lines(workdir)  # first: a training beside this may go on
  of_seeds = list(best.restore(experiment, workdir))
  if quick:
    report(experiment, measure_run(experiment, of_seeds, lines, workdir))
    console.print("eval.num_examples is above 0: nothing is written")
  else:
    finish(experiment, of_seeds, lines, workdir)


def finish(experiment: Experiment, of_seeds: Sequence[Trained], lines: Sequence[record.Line], workdir: Path) -> None:
  """Measures a run, prints the table, and writes model.npz, groups.png and results.json.

  Args:
    of_seeds, lines: as for `measure_run`.
  """
  results = measure_run(experiment, of_seeds, lines, workdir)

  def write() -> None:
    report(experiment, results)
    first, steps = record.read_config(workdir).seed, [one.step for one in of_seeds]
    variables = [processes.local(one.variables) for one in of_seeds]
    weights.write(workdir, experiment.data.image_shape, range(first, first + len(steps)), steps, variables)
    plots.save_groups(workdir / "groups.png", {experiment.config.model.name: results["test"]})
    record.write_results(workdir, results)
    for name in ("results.json", "groups.png", weights.NAME):
      console.print(f"  {workdir / name}")

  processes.on_primary(write)


def measure_run(
  experiment: Experiment, of_seeds: Sequence[Trained], lines: Sequence[record.Line], workdir: Path
) -> record.Line:
  """Returns the content of results.json.

  Args:
    of_seeds: every seed of the run.
    lines: of metrics.jsonl, where the checkpoints were when these were taken from them.
  """
  began = time.perf_counter()
  first = record.read_config(workdir).seed  # that of the experiment may be another, for other noise
  by_seed = {
    seed: measure(one, experiment.data) | {"step": one.step, "epoch": one.step // experiment.steps_per_epoch}
    for seed, one in enumerate(of_seeds, start=first)
  }
  return (
    named(experiment.config)
    | seeds.summarise(by_seed)
    | {
      "epochs_trained": lines[-1]["epoch"] if lines else None,
      "train_minutes": lines[-1]["seconds"] / 60 if lines else None,
      "parameters": num_parameters(of_seeds[0].variables["params"]),
      "evaluate_minutes": (time.perf_counter() - began) / 60,
      "device": str(jax.devices()[0].device_kind),
    }
  )


def named(config: ConfigDict) -> record.Line:
  """What the numbers are of."""
  return {
    "model": models.title(config.model),
    "likelihood": protocol_of(config).figures.likelihood,
    "data": config.data.name,
    "binarization": config.data.binarization,
  }


def report(experiment: Experiment, results: record.Line) -> None:
  """Prints what was measured."""
  test, figures = results["test"], protocol_of(experiment.config).figures
  epoch = "each seed at its best epoch" if "seeds" in results else f"epoch {results['epoch']}"
  console.print(results_table(f"{experiment.config.model.name}, {epoch}", results, figures))
  if test["num_examples"] < len(experiment.data.test):
    console.print(f"on the first {test['num_examples']:,} images of each split only: no number to report")
  console.print(f"{figures.nll} by K: " + ", ".join(f"{nll:.2f} (K = {k})" for k, nll in test["nll_curve"]))


def measure(one: Trained, data: Dataset) -> record.Line:
  """The bound on every split; on test also the active units and the log-likelihood. Nats per image."""
  figures = protocol_of(one.config).figures
  config, inference, variables, keys = one.config.eval, one.inference, one.variables, one.keys
  splits, results = data.evaluated(config.num_examples or None), {}
  for split, images in splits.items():
    numbers = evaluation.bound(inference, variables, images, keys.evaluate, config.batch_size)
    results[split] = {**numbers, "num_examples": len(images)}
  test = splits["test"]
  results["test"]["active_units"] = evaluation.active_units(inference, variables, test, config.batch_size)
  with progress() as bar:
    task = bar.add_task(
      f"test {figures.nll}, K = {config.nll_samples}", total=len(test) * config.nll_samples, note="samples"
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
  return {split: figures.in_bits(numbers, data.image_shape) for split, numbers in results.items()}
