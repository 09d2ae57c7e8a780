"""`latentjax sweep`: several runs, one after another, each in its own directory; the same command resumes them."""

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
from latentjax.config.serialization import to_plain
from latentjax.runtime.console import console
from latentjax.runtime.errors import RunError, UsageError, user_message
from latentjax.workdir import records
from latentjax.workdir.directory import WorkdirLock
from latentjax.workdir.protocol import MetricsRow, Protocol, protocol_of
from latentjax.workdir.run import Run, RunStatus
from latentjax.workdir.tables import sweep_table


def run(config: ConfigDict, overrides: Sequence[Mapping[str, Any]], workdir: Path) -> None:
  """Trains `config` once under each of `overrides`, in subdirectories of `workdir` named after them.

  A failed run does not stop the others; a finished one is not trained again. Prints a table per protocol at the end.
  """
  if (workdir / "config.json").exists():
    raise UsageError(f"{workdir} holds a single run. Choose another --workdir for the sweep.")
  configs = dict(zip(run_names(overrides), (apply_override(config, override) for override in overrides), strict=True))
  finished: dict[Protocol, dict[str, MetricsRow]] = {}
  failed: dict[str, str] = {}
  with WorkdirLock(workdir):
    for number, (name, run_config) in enumerate(configs.items(), start=1):
      console.print(f"\nrun {number} of {len(configs)}: {name}")
      try:
        results = run_one(run_config, workdir / name)
        finished.setdefault(protocol_of(run_config), {})[name] = results
      except Exception as error:  # a failed run does not stop the others
        message = user_message(error)
        failed[name] = f"{type(error).__name__}: {error}" if message is None else str(message)
        if message is None:
          traceback.print_exc()
        console.print(f"failed: {failed[name]}")
      jax.clear_caches()  # the next run compiles its own programs
  *protocols, last = finished or {protocol_of(config): {}}
  for protocol in (*protocols, last):
    title = f"{config.model.name}, {len(configs)} runs" + (f": those on {protocol.title}" if protocols else "")
    listed = failed if protocol == last else {}
    console.print(sweep_table(title, finished.get(protocol, {}), listed, protocol.metric_names))
  for name, reason in failed.items():  # again, as the output of later runs has hidden it
    console.print(f"{name} failed: {reason}")
  console.print(f"  {workdir}")
  if failed:
    raise RunError(f"{len(failed)} of {len(configs)} runs failed. The same command tries them again.")


def read_sweep(file: Path, name: str) -> list[dict[str, Any]]:
  """Returns the dicts that `sweep()` of a config file yields, such as {"seed": 1}; errors call the file `name`."""
  with files.config_file_errors(file, name):
    names = files.run_config_file(file)
    if "sweep" not in names:
      raise UsageError("The file has no sweep(). Define one that yields dicts of overrides, as in configs/vae.py.")
    overrides = list(names["sweep"]())
  for override in overrides:
    if not isinstance(override, Mapping) or not all(isinstance(key, str) for key in override):
      raise UsageError(f"sweep() of {name} yields {override!r}. Yield dicts of values by config key.")
  return [to_plain(dict(override)) for override in overrides]


def run_one(config: ConfigDict, workdir: Path) -> MetricsRow:
  """Returns the results of one run, after training it unless it is finished; raises like `train.run`."""
  run = Run.open(workdir, config, models.performance_keys(config.model), may_be_new=True)
  if run.status is RunStatus.FINISHED and run.has_plots:
    console.print("already finished")
    return run.results
  train.run(config, workdir)
  return records.read_results(workdir)


def apply_override(config: ConfigDict, override: Mapping[str, Any]) -> ConfigDict:
  """Returns a checked copy of `config` with some values changed."""
  try:
    return models.override(config, override)
  except UsageError as error:
    raise UsageError(f"sweep() yields {dict(override)}: {error}") from None


def run_names(overrides: Sequence[Mapping[str, Any]]) -> list[str]:
  """Returns directory names such as latent_dim=16,seed=1; keys lose their section unless that is ambiguous."""

  def show(value: Any) -> str:  # (512, 256) becomes 512-256
    return str(value) if isinstance(value, int | float) else re.sub(r"[^A-Za-z0-9.+-]+", "-", str(value)).strip("-")

  if not overrides:
    raise UsageError("sweep() yields nothing. Yield at least one dict of overrides.")
  keys = sorted({key for override in overrides for key in override})
  leaves = {key: key.rpartition(".")[2] for key in keys}
  short = {key: leaf if [*leaves.values()].count(leaf) == 1 else key for key, leaf in leaves.items()}
  named = ((f"{short[key]}={show(value)}" for key, value in override.items()) for override in overrides)
  names = [",".join(values) or "unchanged" for values in named]
  for name, count in Counter(names).items():
    if count > 1:
      raise UsageError(f"sweep() yields {name} {count} times. Yield each of them once.")
  return names
