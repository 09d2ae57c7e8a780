"""What a run has come to so far, read from its workdir's files alone; nothing is ever written there."""

import dataclasses
import os
import statistics
from collections.abc import Callable
from pathlib import Path

from ml_collections import ConfigDict

from latentjax.workdir import records
from latentjax.workdir.metrics_log import read_metrics, training_finished, validation_bounds
from latentjax.workdir.protocol import SPLITS, TERMS, MetricsRow, Protocol, protocol_of


@dataclasses.dataclass(frozen=True)
class Run:
  """A finished or an unfinished run.

  Attributes:
    name: its workdir's, or that directory's whole path where two runs share a name.
    model: what is trained, in words.
    lines: of metrics.jsonl; none before the first epoch has ended.
    results: of results.json, or None before the evaluation.
    images: SHA-256 of the images that it was last trained on.
  """

  name: str
  model: str
  workdir: Path
  config: ConfigDict
  lines: list[MetricsRow]
  results: MetricsRow | None
  images: str

  @property
  def protocol(self) -> Protocol:
    """Data, their size, binarisation and likelihood: only runs that share all four can be compared."""
    return protocol_of(self.config)

  @property
  def status(self) -> str:
    """'finished', or what is missing."""
    if self.results is None:
      if not self.lines:
        return "no epoch yet"
      return "not evaluated" if training_finished(self.config, self.lines) else "unfinished"
    evaluated = self.results.get("epochs_trained")
    if not self.lines or (training_finished(self.config, self.lines) and self.lines[-1]["epoch"] == evaluated):
      return "finished"
    return f"unfinished, evaluated at epoch {evaluated}"

  def row(self) -> MetricsRow:
    """The run's entry in a comparison; None for what is not known.

    Without results the validation figures are those of the best epoch so far, by the bound that chooses checkpoints.
    The training figures of metrics.jsonl are averages over a changing model, so they never stand in for results. Of
    several seeds the figures are means, and `std` has their standard deviations.
    """
    results = self.results or {}
    best = max(self.lines, key=lambda line: statistics.mean(validation_bounds(line)), default=None)
    splits = {split: results.get(split) for split in SPLITS}
    std = (results or best or {}).get("std")
    if not results and best is not None:
      splits["validation"] = {term: best["validation"][term] for term in TERMS}
    return {
      "name": self.name,
      "workdir": str(self.workdir),
      "status": self.status,
      "model": self.model,
      "parameters": results.get("parameters"),
      "epochs": self.lines[-1]["epoch"] if self.lines else results.get("epochs_trained"),
      "epochs_asked": self.config.train.epochs,
      "best_epoch": results.get("epoch") if results else best and best["epoch"],
      "minutes": self.lines[-1]["seconds"] / 60 if self.lines else results.get("train_minutes"),
      "images_per_second": statistics.median(line["images_per_second"] for line in self.lines) if self.lines else None,
      "device": results.get("device"),
      "images": self.images,
      **splits,
      "num_seeds": self.config.train.num_seeds,
      "std": std,
    }


def read_run(workdir: Path, name: str, title: Callable[[ConfigDict], str]) -> Run:
  """The run that lives in a directory.

  Args:
    title: says what the model of a config is called.

  Raises:
    UsageError: no run lives there.
    RunError: one of its files is damaged.
  """
  config = records.read_config(workdir)
  num_seeds = config.train.num_seeds
  model = title(config.model) + (f", {num_seeds} seeds" if num_seeds > 1 else "")
  images = records.read_provenance(workdir)[-1]["dataset_sha256"]
  lines, results = read_metrics(workdir), records.read_results(workdir)
  return Run(printable(name), model, workdir, config, lines, results, images)


def printable(name: str) -> str:
  """A directory's name as text: a name may hold any bytes."""
  return os.fsencode(name).decode(errors="replace")
