"""--mode=sweep: one run after another, each in its own directory; the same command resumes where it stopped."""

import re
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from latentjax import models
from latentjax.cli import train
from latentjax.config import files
from latentjax.config.schema import check_config, unknown_key
from latentjax.runtime.console import console
from latentjax.runtime.errors import RunError, UsageError, user_message
from latentjax.workdir import records
from latentjax.workdir.directory import WorkdirLock
from latentjax.workdir.metrics_log import read_metrics, training_finished
from latentjax.workdir.protocol import MetricsRow, Protocol, protocol_of
from latentjax.workdir.tables import sweep_table

Overrides = Mapping[str, Any]


def run(config: ConfigDict, overrides: Sequence[Overrides], workdir: Path) -> None:
  """Trains `config` once under each of `overrides`, in directories of `workdir` named after them, as --mode=train does.

  A run that failed is reported and does not stop those after it; a finished one is not begun again. At the end
  comes a table of all of them, the highest validation ELBO first; one each for figures that do not compare.

  Raises:
    UsageError: there are none, two of them are the same or one makes no config, or the workdir holds a single run;
      nothing has been trained.
    RunError: some failed, or another process is at work in the workdir.
    Stopped: a signal asked for it.
  """
  if (workdir / "config.json").exists():
    raise UsageError(f"{workdir} holds a single run: choose another --workdir for the sweep")
  runs = dict(zip(run_names(overrides), (apply_override(config, override) for override in overrides), strict=True))
  finished: dict[Protocol, dict[str, MetricsRow]] = {}
  failed: dict[str, str] = {}
  with WorkdirLock(workdir):
    for number, (name, asked) in enumerate(runs.items(), start=1):
      console.print(f"\nrun {number} of {len(runs)}: {name}")
      try:
        results = run_one(asked, workdir / name)
        finished.setdefault(protocol_of(asked), {})[name] = results
      except Exception as error:  # whatever it is, the runs after this one are none the worse for it
        told = user_message(error)
        failed[name] = f"{type(error).__name__}: {error}" if told is None else str(told)
        if told is None:
          traceback.print_exc()
        console.print(f"failed: {failed[name]}")
      jax.clear_caches()  # the next run compiles programs of its own
  *protocols, last = finished or {protocol_of(config): {}}
  for protocol in (*protocols, last):
    title = f"{config.model.name}, {len(runs)} runs" + (f": those on {protocol.title}" if protocols else "")
    console.print(
      sweep_table(title, finished.get(protocol, {}), failed if protocol == last else {}, protocol.metric_names)
    )
  for name, reason in failed.items():  # which the output of the runs after it has moved out of sight
    console.print(f"{name} failed: {reason}")
  console.print(f"  {workdir}")
  if failed:
    raise RunError(f"{len(failed)} of {len(runs)} runs failed; the same command tries them again")


def read_sweep(file: Path, asked: str) -> list[dict[str, Any]]:
  """What `sweep()` of a config file yields: overrides such as {"seed": 1, "train.beta": 4.0}.

  Args:
    asked: the file as a person knows it.

  Raises:
    UsageError: there is no such function, or it fails.
  """
  module = files.import_config_module(file, asked)
  if not hasattr(module, "sweep"):
    raise UsageError(f"--mode=sweep: {asked} has no sweep(): let it yield dicts of overrides, as in configs/vae.py")
  overrides = files.call_user_code(lambda: list(module.sweep()), file, asked)
  for override in overrides:
    if not isinstance(override, Mapping):
      raise UsageError(f"sweep() of {asked} yields {override!r}, where a dict of overrides is expected")
  for key in {key for override in overrides for key in override}:
    if not isinstance(key, str):
      raise UsageError(f"sweep() of {asked} yields {key!r}, where the name of a key is expected")
  return [dict(override) for override in overrides]


def run_one(config: ConfigDict, workdir: Path) -> MetricsRow:
  """The results of one run, trained now unless it is finished.

  Raises:
    UsageError, RunError: as `train.run` does.
  """
  if (workdir / "config.json").exists():
    records.check_same_experiment(workdir, config, models.performance_keys(config.model))
    lines = read_metrics(workdir)
    results = train.finished_results(workdir, len(lines)) if training_finished(config, lines) else None
    if results is not None:
      console.print("finished before")
      return results
  train.run(config, workdir)
  return records.read_results(workdir)


def apply_override(config: ConfigDict, override: Overrides) -> ConfigDict:
  """A checked copy of `config` with some values changed.

  Raises:
    UsageError: it makes no config; the message says which override it is.
  """
  try:
    unknown = unknown_key(config, override)
    if unknown is not None:
      raise UsageError(unknown)
    changed, refused = config.copy_and_resolve_references(), None
    try:
      changed.update_from_flattened_dict(dict(override))
    except (TypeError, ValueError) as error:
      refused = str(error)
      with changed.ignore_type():  # for the checks to say what may stand there
        changed.update_from_flattened_dict(dict(override))
    check_config(changed)
    models.check_model(changed.model)
    if refused is not None:
      raise UsageError(refused)
  except UsageError as error:
    raise UsageError(f"sweep() yields {dict(override)}: {error}") from None
  return changed


def run_names(overrides: Sequence[Overrides]) -> list[str]:
  """Directory names such as latent_dim=16,seed=1: keys without their section where that is clear.

  Raises:
    UsageError: there are none, or two are the same.
  """
  if not overrides:
    raise UsageError("sweep() yields nothing to run")
  keys = sorted({key for override in overrides for key in override})
  leaves = Counter(key.rpartition(".")[2] for key in keys)
  short = {key: leaf if leaves[leaf := key.rpartition(".")[2]] == 1 else key for key in keys}
  names = [
    ",".join(f"{short[key]}={format_value(value)}" for key, value in override.items()) or "unchanged"
    for override in overrides
  ]
  for name, count in Counter(names).items():
    if count > 1:
      raise UsageError(f"sweep() yields {name} {count} times: each run needs a directory of its own")
  return names


def format_value(value: Any) -> str:
  """A value as part of a directory name: (512, 256) becomes 512-256."""
  return re.sub(r"[^A-Za-z0-9.+-]+", "-", str(value)).strip("-") if not isinstance(value, int | float) else str(value)
