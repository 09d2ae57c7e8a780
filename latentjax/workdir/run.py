"""A run: its config, metrics, results and provenance, read once from its workdir."""

import dataclasses
import enum
import os
import statistics
from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from latentjax.config.schema import NON_IDENTITY_KEYS, differences
from latentjax.config.serialization import to_plain
from latentjax.runtime import distributed
from latentjax.runtime.errors import RunError, UsageError
from latentjax.workdir import records
from latentjax.workdir.metrics_log import read_metrics, training_finished, validation_bounds
from latentjax.workdir.protocol import SPLITS, TERMS, MetricNames, MetricsRow, Protocol, protocol_of
from latentjax.workdir.weights import SUFFIX

PLOTS = ("loss.png", "samples.png", "reconstructions.png")  # without them a training is not complete


class RunStatus(enum.Enum):
  """Progress of a run; the value is its text in tables."""

  NO_EPOCH = "no epoch yet"
  UNFINISHED = "unfinished"
  TRAINED = "not evaluated"
  FINISHED = "finished"


@dataclasses.dataclass(frozen=True)
class Run:
  """Snapshot of a run, taken when it was opened."""

  workdir: Path
  config: ConfigDict  # of the command, of the same experiment as `saved`
  saved: ConfigDict | None = None  # content of config.json; None before training
  provenance: Sequence[MetricsRow] = ()  # see `records.read_provenance`
  lines: Sequence[MetricsRow] = ()  # of metrics.jsonl, one per epoch
  results: MetricsRow | None = None  # content of results.json; None before the evaluation
  files: Sequence[str] = ()  # names of the files in the workdir
  epochs: int | None = None  # number of trained epochs; None if no epoch is logged
  name: str = ""  # labels in a comparison
  model: str = ""

  @classmethod
  def open(
    cls, workdir: Path, config: ConfigDict | None = None, may_change: Sequence[str] = (), may_be_new: bool = False
  ) -> "Run":
    """Reads a workdir; raises UsageError for another experiment, and RunError if a file is damaged.

    The config is by default that of the run. `may_change` has the keys that may differ besides `NON_IDENTITY_KEYS`.
    With `may_be_new`, config.json may be missing.
    """
    files, content = distributed.on_process_zero(lambda: _read(workdir, may_be_new))
    if content is None:
      return cls(workdir, config, files=files)
    saved, provenance, lines, results = content
    saved = ConfigDict(to_plain(saved))
    config = saved if config is None else config
    if changed := differences(saved, config, (*NON_IDENTITY_KEYS, *may_change)):
      listed = "; ".join(changed[:6]) + (f"; and {len(changed) - 6} more" if len(changed) > 6 else "")
      advice = "Drop these changes, or choose another --workdir."
      raise UsageError(f"{workdir} holds a different experiment ({listed}). {advice}")
    return cls(workdir, config, saved, provenance, lines, results, files, len(lines) or None)

  @property
  def status(self) -> RunStatus:
    epochs, evaluated = self.epochs or 0, (self.results or {}).get("epochs_trained")
    trained = epochs >= self.config.train.epochs or training_finished(self.config, self.lines)
    if self.results is not None and (self.epochs is None or (trained and epochs == evaluated)):
      return RunStatus.FINISHED
    if trained:
      return RunStatus.TRAINED
    return RunStatus.UNFINISHED if epochs else RunStatus.NO_EPOCH

  @property
  def has_plots(self) -> bool:
    """True if the plots that complete a training exist."""
    return set(PLOTS) <= {*self.files}

  @property
  def seeds(self) -> range:
    """Seeds trained together. The command's own seed may differ and decides only its noise."""
    config = self.config if self.saved is None else self.saved
    return range(config.seed, config.seed + config.train.num_seeds)

  @property
  def protocol(self) -> Protocol:
    return protocol_of(self.config)

  @property
  def metric_names(self) -> MetricNames:
    return self.protocol.metric_names

  def labeled(self, name: str, model: str) -> "Run":
    """Returns the run with its labels in a comparison; bytes of the name that are not text are replaced."""
    seeds = f", {len(self.seeds)} seeds" if len(self.seeds) > 1 else ""
    return dataclasses.replace(self, name=os.fsencode(name).decode(errors="replace"), model=model + seeds)

  def check_data(self, sha256: str) -> None:
    """Raises RunError unless `Dataset.sha256` is that of the run's images: others may mix its train and test splits."""
    if self.provenance and self.provenance[-1]["dataset_sha256"] != sha256:
      name, advice = self.config.data.name, "Restore them, or choose another workdir."
      raise RunError(f"The images of {name} are not those that {self.workdir} was trained on. {advice}")

  def check_writable(self) -> None:
    """Raises RunError if the workdir is read-only, before a long computation whose results go there."""
    if not distributed.on_process_zero(lambda: os.access(self.workdir, os.W_OK)):
      raise RunError(f"Cannot write to {self.workdir} (read-only). Change its permissions, or copy the run.")

  def check_resumable(self, newest: int | None) -> None:
    """Raises UsageError for results without a checkpoint, or a checkpoint, of step `newest`, without a config."""
    if newest is not None and self.saved is None:
      raise UsageError(f"{self.workdir} has checkpoints but no config.json. Restore it, or choose another --workdir.")
    for name in self.files:
      if newest is None and (name == "results.json" or name.endswith(SUFFIX)):
        problem = f"has the {name} of a trained model but no checkpoint to resume from"
        raise UsageError(f"{self.workdir} {problem}. Choose another --workdir.")

  def write_config(self, image_shape: tuple[int, int, int], sha256: str) -> None:
    """Writes config.json, adding the current provenance if it is new; see `check_data` for what it raises."""
    self.check_data(sha256)
    history = (records.current_provenance(sha256), self.provenance)
    distributed.on_process_zero(lambda: records.write_config(self.workdir, self.config, image_shape, *history))

  def row(self) -> MetricsRow:
    """Returns the run's entry in a comparison; unknown values are None.

    Before the evaluation, the validation metrics are those of the best epoch so far by the bound that selects
    checkpoints. Training metrics of metrics.jsonl are averages over a changing model and never stand in for results.
    """
    results = self.results or {}
    best = max(self.lines, key=lambda line: statistics.mean(validation_bounds(line)), default=None)
    splits = {split: results.get(split) for split in SPLITS}
    if not results and best is not None:
      splits["validation"] = {term: best["validation"][term] for term in TERMS}
    status, last = self.status, self.lines[-1] if self.lines else None
    stale = self.results is not None and status is not RunStatus.FINISHED
    return {
      "name": self.name,
      "workdir": str(self.workdir),
      "status": f"unfinished, evaluated at epoch {results.get('epochs_trained')}" if stale else status.value,
      "model": self.model,
      "parameters": results.get("parameters"),
      "epochs": last["epoch"] if last else results.get("epochs_trained"),
      "max_epochs": self.config.train.epochs,
      "best_epoch": results.get("epoch") if results else best and best["epoch"],
      "minutes": last["seconds"] / 60 if last else results.get("train_minutes"),
      "images_per_second": statistics.median(line["images_per_second"] for line in self.lines) if last else None,
      "device": results.get("device"),
      "images": self.provenance[-1]["dataset_sha256"],
      **splits,
      "num_seeds": len(self.seeds),
      "std": (results or best or {}).get("std"),
    }


def _read(workdir: Path, may_be_new: bool) -> tuple[list[str], tuple | None]:
  """Returns the names of a workdir's files, and the contents of those that describe its run, as JSON values."""
  files = sorted(path.name for path in workdir.iterdir()) if workdir.is_dir() else []
  if may_be_new and "config.json" not in files:
    return files, None
  config, provenance = records.read_config(workdir).to_dict(), records.read_provenance(workdir)
  return files, (config, provenance, read_metrics(workdir), records.read_results(workdir))
