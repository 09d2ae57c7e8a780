"""--mode=evaluate: measures the best checkpoint of a workdir, and keeps numbers and weights."""

import time
from collections.abc import Sequence
from pathlib import Path

import jax
from ml_collections import ConfigDict

from latentjax import best, models, processes, trained
from latentjax import experiment as experiments
from latentjax.console import console, progress, results_table
from latentjax.data.dataset import Dataset
from latentjax.errors import RunError
from latentjax.experiment import Experiment
from latentjax.modes import encode, explore, export
from latentjax.trained import Trained
from latentjax.training import evaluation
from latentjax.training.state import num_parameters
from latentjax.workdir import plots, record, seeds, weights
from latentjax.workdir.figures import protocol_of

# What other modes leave in a workdir of the weights that it had then.
MADE_FROM_WEIGHTS = {explore.NAME: "explore", export.FOLDER: "export", encode.LATENTS: "encode", encode.OWN: "encode"}


def run(config: ConfigDict, workdir: Path) -> None:
  """Evaluates the best checkpoint of `workdir`; the config's seed may be another, which then decides the noise here.

  Raises:
    UsageError: there is none, or the workdir holds a different experiment.
    RunError: it cannot be read, the workdir not be written, or the images are not those that it was trained on.
  """
  record.require_same(workdir, config, ("seed", *models.speed_keys(config.model)))
  processes.on_primary(lambda: record.require_writable(workdir))
  experiment = experiments.create(config)
  record.require_same_images(workdir, config.data.name, experiment.data.sha256)
  lines = record.read_lines(workdir)  # first: a training beside this may go on
  finish(experiment, list(best.restore(experiment, workdir)), lines, workdir)


def finish(experiment: Experiment, of_seeds: Sequence[Trained], lines: Sequence[record.Line], workdir: Path) -> None:
  """Prints the table, and writes model.npz, results.json and groups.png; but a quick look replaces no better results.

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
  results = (
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

  def write() -> None:
    report(experiment, results)
    kept = record.read_results(workdir)
    more = measured_more(kept, results)
    if not more or not opens(experiment.config, workdir):
      steps, variables = [one.step for one in of_seeds], [processes.local(one.variables) for one in of_seeds]
      weights.write(workdir, experiment.data.image_shape, list(by_seed), steps, variables)
    if more:
      console.print(f"{workdir / 'results.json'} stays: it is of more {more}")
      return
    plots.save_groups(workdir / "groups.png", {experiment.config.model.name: results["test"]})
    record.write_results(workdir, results)
    for name in ("results.json", "groups.png", weights.NAME):
      console.print(f"  {workdir / name}")
    if kept is None or kept.get("step") != results["step"]:
      say_outdated(workdir)

  processes.on_primary(write)


def say_outdated(workdir: Path) -> None:
  """Says what is there of earlier weights, and what makes it anew."""
  found = [f"{name} (--mode={mode})" for name, mode in MADE_FROM_WEIGHTS.items() if (workdir / name).exists()]
  if found:
    console.print(f"of earlier weights until made anew: {', '.join(found)}")


def named(config: ConfigDict) -> record.Line:
  """What the numbers are of."""
  return {
    "model": models.title(config.model),
    "likelihood": protocol_of(config).figures.likelihood,
    "data": config.data.name,
    "binarization": config.data.binarization,
  }


def measured_more(kept: record.Line | None, results: record.Line) -> str | None:
  """Of what kept results have more: epochs, or of this very state images or importance samples; else None."""
  if kept is None:
    return None
  if (kept.get("epochs_trained") or 0) > (results["epochs_trained"] or 0):  # of a training beside this evaluation
    return "epochs"
  if any(kept.get(name) != results[name] for name in ("step", "epochs_trained")):
    return None
  for name, what in (("num_examples", "images"), ("nll_samples", "importance samples")):
    before, now = (one["test"].get(name) or 0 for one in (kept, results))
    if before != now:
      return what if before > now else None
  return None


def opens(config: ConfigDict, workdir: Path) -> bool:
  """Whether model.npz is there, whole, and of this config."""
  try:
    return trained.read(config, workdir) is not None
  except RunError:
    return False


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
