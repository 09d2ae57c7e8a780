"""The written record of a run: config.json, results.json, and the reading of metrics.jsonl."""

import json
import os
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from latentjax import config as configs
from latentjax.errors import RunError, UsageError

Line = dict[str, Any]


def claim(workdir: Path, config: ConfigDict, origin: Line, ignore: tuple[str, ...] = ()) -> None:
  """Makes an existing directory the home of this experiment, or goes on in it if its config and data are the same.

  Args:
    origin: as `provenance.collect` returns it; config.json lists every one that differs from the one before it.
    ignore: keys that may differ, besides those that always may.

  Raises:
    UsageError: it holds a different experiment; nothing is changed.
    RunError: it cannot be written, or its data are not those that it began with.
  """
  origins = []
  if (workdir / "config.json").exists():
    require_same(workdir, config, ignore)
    origins = read_origins(workdir)
  if origins and origins[-1]["dataset_sha256"] != origin["dataset_sha256"]:
    raise RunError(
      f"{config.data.name} now has other images than {workdir} was trained on so far: bring them back, or choose"
      " another --workdir"
    )
  if origin not in origins[-1:]:
    origins.append(origin)
  write_whole(workdir / "config.json", json.dumps(config.to_dict() | {configs.ORIGINS: origins}, indent=2) + "\n")


def require_same(workdir: Path, config: ConfigDict, ignore: tuple[str, ...] = ()) -> None:
  """Raises UsageError if a workdir holds another experiment than `config`, apart from the keys to ignore."""
  changed = configs.differences(read_config(workdir), config, ignore)
  if changed:
    shown = "; ".join(changed[:6]) + (f"; and {len(changed) - 6} more" if len(changed) > 6 else "")
    raise UsageError(
      f"{workdir} holds a different experiment ({shown}): drop these changes, or choose another --workdir"
    )


def read_config(workdir: Path) -> ConfigDict:
  """The config of a workdir that a run has claimed.

  Raises:
    UsageError: there is none.
    RunError: it is damaged.
  """
  path = workdir / "config.json"
  if not path.exists():
    raise UsageError(f"{workdir} has no config.json: give the --workdir of a run that --mode=train has started")
  return configs.read(path)


def read_origins(workdir: Path) -> list[Line]:
  """Every `provenance.collect` under which a workdir was trained, oldest first.

  Raises:
    RunError: they are damaged.
  """
  path = workdir / "config.json"
  try:
    origins = json.loads(path.read_text()).get(configs.ORIGINS, [])
    if all(isinstance(origin["dataset_sha256"], str) for origin in origins):
      return origins
  except (OSError, ValueError, KeyError, TypeError, AttributeError):
    pass
  raise RunError(f"{configs.ORIGINS} in {path} is damaged: restore it, or choose another workdir")


def write_results(workdir: Path, results: Line) -> None:
  write_whole(workdir / "results.json", json.dumps(results, indent=2) + "\n")


def read_results(workdir: Path) -> Line | None:
  """What `write_results` wrote, or None if the run has not come so far."""
  path = workdir / "results.json"
  try:
    results = json.loads(path.read_text()) if path.exists() else None
    if results is not None:
      _ = [results[key] for key in ("epochs_trained", "validation", "test")]
    return results
  except (ValueError, KeyError, TypeError) as error:
    raise RunError(f"{path} is damaged ({error}): delete it, and --mode=evaluate writes it anew") from None


def read_lines(workdir: Path) -> list[Line]:
  """All lines of metrics.jsonl: one per epoch, from the first on.

  Raises:
    RunError: a line other than the last is damaged; half a last line is what a killed run leaves, and is dropped.
  """
  path = workdir / "metrics.jsonl"
  texts = path.read_text(errors="replace").splitlines() if path.exists() else []
  lines = []
  for number, text in enumerate(texts, start=1):
    try:
      line = json.loads(text)
    except ValueError:
      line = None
    if is_line(line, number):
      lines.append(line)
    elif line is not None or number < len(texts):
      raise RunError(f"line {number} of {path} is damaged: restore it, or choose another workdir")
  return lines


def is_line(line: Any, epoch: int) -> bool:
  """Whether it is what `MetricsLog.append` was given for that epoch, as far as anyone reads it."""
  try:
    numbers = [line["step"], line["seconds"]]
    numbers += [line[split][name] for split in ("train", "validation") for name in ("elbo", "kl", "reconstruction")]
    return line["epoch"] == epoch and all(isinstance(number, int | float) for number in numbers)
  except (KeyError, TypeError):
    return False


def write_whole(path: Path, text: str) -> None:
  """Writes a file whole or not at all.

  Raises:
    RunError: the disk refuses.
  """
  unfinished = path.with_name(path.name + ".tmp")
  try:
    with unfinished.open("w", encoding="utf-8") as file:
      file.write(text)
      file.flush()
      os.fsync(file.fileno())
    unfinished.replace(path)
  except OSError as error:
    raise RunError(f"cannot write {path} ({error.strerror})") from None
