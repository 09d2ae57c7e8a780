"""What a run has come to so far, read from its workdir's files alone; nothing is ever written there."""

import dataclasses
import math
import os
import statistics
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from latentjax.errors import RunError
from latentjax.workdir import record

SPLITS = ("train", "validation", "test")
TERMS = ("elbo", "kl", "reconstruction")


@dataclasses.dataclass(frozen=True)
class Run:
  """A finished or an unfinished run.

  Attributes:
    name: its workdir's, or that directory's whole path where two runs share a name.
    model: what is trained, in words.
    lines: of metrics.jsonl; none before the first epoch has ended.
    results: of results.json, or None before the evaluation.
  """

  name: str
  model: str
  workdir: Path
  config: ConfigDict
  lines: list[record.Line]
  results: record.Line | None

  @property
  def protocol(self) -> tuple[str, str]:
    """The data's name and binarisation: only runs that share both can be compared."""
    return self.config.data.name, self.config.data.binarization

  @property
  def status(self) -> str:
    """'finished', or what is missing."""
    if self.results is None:
      if not self.lines:
        return "no epoch yet"
      return "unfinished" if self.lines[-1]["epoch"] < self.config.train.epochs else "not evaluated"
    evaluated = self.results.get("epochs_trained")
    if self.lines and self.lines[-1]["epoch"] != evaluated:
      return f"unfinished, evaluated at epoch {evaluated}"
    return "finished"

  def row(self) -> record.Line:
    """The run's entry in a comparison; None for what is not known.

    Without results the validation figures are those of the best epoch so far. The training figures of metrics.jsonl
    are averages over a changing model, so they never stand in for results. Of several seeds the figures are means,
    and `std` has their standard deviations.
    """
    results = self.results or {}
    best = max(self.lines, key=lambda line: line["validation"]["elbo"], default=None)
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
  config = record.read_config(workdir)
  require(workdir / "config.json", lambda: (config.data.name, config.data.binarization, config.train.epochs))
  require(workdir / "config.json", lambda: title(config.model))
  lines = record.read_lines(workdir)
  for line in lines:
    require(workdir / "metrics.jsonl", lambda line=line: check_line(line))
  results = record.read_results(workdir)
  if results is not None:
    require(workdir / "results.json", lambda: check_results(results))
  num_seeds = config.train.num_seeds
  model = title(config.model) + (f", {num_seeds} seeds" if num_seeds > 1 else "")
  return Run(printable(name), model, workdir, config, lines, results)


def require(path: Path, check: Callable[[], Any]) -> None:
  """Raises RunError about a file whose content fails a check: valid JSON that no run has written."""
  try:
    check()
  except KeyError as error:
    raise RunError(f"{path} is damaged: it has no {error.args[0]}") from None
  except (AttributeError, TypeError, ValueError, OverflowError) as error:
    raise RunError(f"{path} is damaged: {str(error).splitlines()[0]}") from None


def check_line(line: Any) -> None:
  for split in ("train", "validation"):
    check_numbers(line[split], TERMS)
    check_spread(line, split, TERMS)
  check_numbers(line, ("epoch", "seconds", "images_per_second"))


def check_results(results: Any) -> None:
  for split in SPLITS:
    check_numbers(results[split], TERMS)
    check_spread(results, split, TERMS)
  check_numbers(results, ("parameters",), ("epoch", "epochs_trained", "train_minutes"))
  test = results["test"]
  if "nll" in test:
    check_numbers(test, ("nll", "nll_samples"), ("nll_stderr", "num_examples"))
    check_spread(results, "test", ("nll",))
  groups = test.get("kl_per_group") or []
  active = test.get("active_units") or groups
  if len(active) != len(groups):
    raise ValueError("active_units and kl_per_group have different lengths")
  for values in (groups, active, *(test.get("nll_curve") or [])):
    check_numbers(dict(enumerate(values)), range(len(values)))
  if any(len(point) != 2 for point in test.get("nll_curve") or []):
    raise ValueError("nll_curve is no list of K and NLL")


def check_spread(numbers: Mapping, split: str, keys: Iterable) -> None:
  """As `check_numbers`, of the standard deviations that numbers of several seeds have."""
  if "std" in numbers:
    check_numbers(numbers["std"][split], keys)


def check_numbers(values: Mapping, keys: Iterable, optional: Iterable = ()) -> None:
  """Raises an error that `require` knows unless all values are finite numbers; optional ones may be None or absent."""
  for key in [*keys, *(key for key in optional if values.get(key) is not None)]:
    if isinstance(values[key], bool) or not math.isfinite(values[key]):
      raise ValueError(f"{key} is {values[key]!r}")


def printable(name: str) -> str:
  """A directory's name as text: a name may hold any bytes."""
  return os.fsencode(name).decode(errors="replace")
