"""Metrics of a training: metrics.jsonl, one line per epoch, and TensorBoard events."""

import io
import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ml_collections import ConfigDict
from PIL import Image
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

from latentjax.config.schema import flatten
from latentjax.runtime import distributed
from latentjax.runtime.console import console
from latentjax.runtime.errors import RunError, damaged
from latentjax.runtime.fileio import dump_json, load_json, write_atomic
from latentjax.workdir.protocol import TERMS, MetricsRow
from latentjax.workdir.records import require_keys


def read_metrics(workdir: Path) -> list[MetricsRow]:
  """Returns all lines of metrics.jsonl; raises RunError if one is damaged.

  A last line that a killed run left incomplete is reported and ignored.
  """
  path = workdir / "metrics.jsonl"
  texts = path.read_text(encoding="utf-8-sig", errors="replace").splitlines(keepends=True) if path.exists() else []
  lines = []
  for number, text in enumerate(texts, start=1):
    try:
      line = load_json(text)
      require_keys(line, ("step", "seconds", "images_per_second"))
      for split in ("train", "validation"):
        require_keys(line[split], TERMS)
      if line["epoch"] != number:
        raise ValueError
      lines.append(line)
    except (LookupError, TypeError, ValueError) as error:
      if isinstance(error, json.JSONDecodeError) and number == len(texts) and not text.endswith("\n"):
        console.print(f"Ignoring line {number} of {path}, its last, which is incomplete.")
        break
      raise damaged(f"Line {number} of {path}", "Restore it, or choose another --workdir") from None
  return lines


def training_finished(config: ConfigDict, lines: Sequence[MetricsRow]) -> bool:
  """Returns True after the last epoch, or after `train.early_stopping_patience` epochs without improvement."""
  patience = config.train.early_stopping_patience
  return len(lines) >= config.train.epochs or bool(patience and epochs_since_best(lines) >= patience)


def epochs_since_best(lines: Sequence[MetricsRow]) -> int:
  """Returns the number of epochs after the first best one; of several seeds, the smallest such number."""
  per_seed = zip(*(validation_bounds(line) for line in lines), strict=True)
  return min((len(lines) - 1 - seed.index(max(seed)) for seed in per_seed), default=0)


def validation_bounds(line: MetricsRow) -> list[float]:
  """Returns the validation bound of every seed: the importance-weighted one if that is trained, else the ELBO.

  One that is not finite, for which metrics.jsonl has null, is -inf.
  """
  seeds = line["seeds"].values() if "seeds" in line else [line]
  bounds = [seed["validation"].get("importance_bound", seed["validation"]["elbo"]) for seed in seeds]
  return [-math.inf if bound is None else bound for bound in bounds]


class MetricWriter:
  """Appends metrics to metrics.jsonl and to TensorBoard events, as a context manager.

  All processes make the same calls; process 0 does all I/O. The calling thread writes the events, since the thread of
  tensorboardX's SummaryWriter dies if the disk is full, and closing it then hangs. Methods raise RunError if writing
  fails. metrics.jsonl is checked at once and written from `__enter__` on, without lines after `epoch`, from which the
  run resumes; `lines` has its content.
  """

  def __init__(self, workdir: Path, epoch: int):
    self._workdir, self._path, self._events = workdir, workdir / "metrics.jsonl", None
    logged = distributed.on_process_zero(lambda: read_metrics(workdir))
    if len(logged) < epoch:
      problem = f"{self._path} ends at epoch {len(logged)}, but the checkpoint is of epoch {epoch}"
      raise RunError(f"{problem}. Restore the file, or choose another --workdir.")
    self.lines = logged[:epoch]
    self._next_step = self.lines[-1]["step"] + 1 if self.lines else 0

  def __enter__(self) -> "MetricWriter":
    def open_files() -> None:
      write_atomic(self._path, "".join(dump_json(line, indent=None) for line in self.lines))
      directory = self._workdir / "tensorboard"
      started = SessionLog(status=SessionLog.START)  # TensorBoard then drops earlier events from this step on
      with self._disk_errors():
        directory.mkdir(exist_ok=True)
        self._events = EventsWriter(str(directory / "events"), filename_suffix=f".{time.time_ns()}")
        self._events.write_event(Event(wall_time=time.time(), step=self._next_step, session_log=started))

    distributed.on_process_zero(open_files)
    return self

  def __exit__(self, *_) -> None:
    if self._events is not None:
      with suppress(OSError):  # every line has been flushed, or its failure raised
        self._events.close()

  def append(self, line: MetricsRow) -> None:
    """Appends a line; its numbers become TensorBoard scalars such as validation/elbo."""
    self.lines.append(line)
    scalars = flatten({name: value for name, value in line.items() if name not in ("step", "epoch")})
    values = [
      Summary.Value(tag=name.replace(".", "/"), simple_value=value)
      for name, value in scalars.items()
      if value is not None
    ]

    def write() -> None:
      with self._disk_errors(), self._path.open("a", encoding="utf-8") as file:
        file.write(dump_json(line, indent=None))
        file.flush()
        os.fsync(file.fileno())

    distributed.on_process_zero(write)
    self._write_events(line["step"], Summary(value=values))

  def add_hparams(self, config: ConfigDict) -> None:
    """Adds the config to TensorBoard's table of hyperparameters, beside the validation ELBO."""
    sections = ("seed", "precision", "data", "model", "train")  # those that decide the results
    keys = flatten({name: value for name, value in config.to_dict().items() if name in sections})
    shown = {key: value if isinstance(value, str | bool | int | float) else str(value) for key, value in keys.items()}
    protos = summary.hparams(shown, {"validation/elbo": None})[:2]  # the third marks the end of the run
    self._write_events(self._next_step, *protos)

  def add_pictures(self, step: int, pictures: Mapping[str, bytes]) -> None:
    """Adds images, PNG by name, to TensorBoard."""
    values = []
    for name, content in pictures.items():
      with Image.open(io.BytesIO(content)) as picture:
        width, height = picture.size
      image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=content)
      values.append(Summary.Value(tag=name, image=image))
    self._write_events(step, Summary(value=values))

  def _write_events(self, step: int, *summaries: Summary) -> None:
    def write() -> None:
      with self._disk_errors():
        for content in summaries:
          self._events.write_event(Event(wall_time=time.time(), step=step, summary=content))
        self._events.flush()

    distributed.on_process_zero(write)

  @contextmanager
  def _disk_errors(self) -> Iterator[None]:
    try:
      yield
    except OSError as error:
      raise RunError(f"Cannot write to {self._workdir} ({error.strerror}).") from None
