"""The written record of a run: config.json, metrics.jsonl with its TensorBoard twin, results.json."""

import json
import os
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict
from tensorboardX import SummaryWriter

from latentjax import config as configs
from latentjax.errors import RunError, UsageError

Line = dict[str, Any]


def claim(workdir: Path, config: ConfigDict) -> None:
  """Makes an existing directory the home of this experiment, or goes on in it if its config is the same.

  Raises:
    UsageError: it holds a different experiment; nothing is changed.
    RunError: it cannot be written.
  """
  if (workdir / "config.json").exists():
    require_same(workdir, config)
  write_whole(workdir / "config.json", configs.to_json(config))


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


def write_results(workdir: Path, results: Line) -> None:
  write_whole(workdir / "results.json", json.dumps(results, indent=2) + "\n")


def read_results(workdir: Path) -> Line | None:
  """What `write_results` wrote, or None if the run has not come so far."""
  path = workdir / "results.json"
  try:
    return json.loads(path.read_text()) if path.exists() else None
  except ValueError as error:
    raise RunError(f"{path} is damaged ({error}): delete it, and --mode=evaluate writes it anew") from None


def read_lines(workdir: Path) -> list[Line]:
  """All lines of metrics.jsonl, in the order of their epochs.

  Raises:
    RunError: a line other than the last is damaged; half a last line is what a killed run leaves, and is dropped.
  """
  path = workdir / "metrics.jsonl"
  texts = path.read_text(errors="replace").splitlines() if path.exists() else []
  lines = []
  for number, text in enumerate(texts, start=1):
    try:
      lines.append(json.loads(text))
    except ValueError:
      if number < len(texts):
        raise RunError(f"line {number} of {path} is damaged: delete it, or choose another workdir") from None
  return lines


class MetricsLog:
  """Appends a line per epoch to metrics.jsonl and to TensorBoard events. Use as a context manager.

  Args:
    workdir: claimed.
    epoch: of the checkpoint that the run goes on from; what was logged after it is forgotten.
  """

  def __init__(self, workdir: Path, epoch: int):
    self._path = workdir / "metrics.jsonl"
    self.lines = [line for line in read_lines(workdir) if line["epoch"] <= epoch]
    write_whole(self._path, "".join(json.dumps(line) + "\n" for line in self.lines))
    first_step = self.lines[-1]["step"] + 1 if self.lines else 0
    self._events = SummaryWriter(str(workdir / "tensorboard"), purge_step=first_step)

  def __enter__(self) -> "MetricsLog":
    return self

  def __exit__(self, *_) -> None:
    self._events.close()

  def append(self, line: Line) -> None:
    """Adds a line; its numbers become TensorBoard scalars such as validation/elbo.

    Raises:
      RunError: the disk refuses.
    """
    self.lines.append(line)
    try:
      with self._path.open("a") as file:
        file.write(json.dumps(line) + "\n")
    except OSError as error:
      raise RunError(f"cannot write to {self._path} ({error.strerror})") from None
    for name, value in configs.flatten(line).items():
      if name not in ("step", "epoch"):
        self._events.add_scalar(name.replace(".", "/"), value, line["step"])
    self._events.flush()


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
