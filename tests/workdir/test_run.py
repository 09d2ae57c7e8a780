"""A run refuses another experiment and other images, and knows its status."""

import dataclasses
import importlib
import json

import pytest

from latentjax.runtime.errors import RunError, UsageError
from latentjax.workdir import records
from latentjax.workdir.run import PLOTS, Run, RunStatus

SHAPE = (28, 28, 1)
BOUND = {"elbo": -3.0, "kl": 1.0, "reconstruction": 2.0}


@pytest.fixture
def config():
  config = importlib.import_module("configs.draw").get_config()
  config.train.epochs = 3
  return config


def start(workdir, config, sha256: str = "0") -> None:
  Run.open(workdir, config, may_be_new=True).write_config(SHAPE, sha256)


def write_metrics(workdir, *bounds: float) -> None:
  lines = [
    {"step": 10 * epoch, "epoch": epoch, "seconds": 1.5, "images_per_second": 9.0}
    | {"train": BOUND, "validation": BOUND | {"elbo": bound}}
    for epoch, bound in enumerate(bounds, start=1)
  ]
  (workdir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_another_experiment_or_other_images_change_nothing(tmp_path, config):
  start(tmp_path, config)
  before = (tmp_path / "config.json").read_text()
  other = config.copy_and_resolve_references()
  other.model.num_steps += 1
  with pytest.raises(UsageError, match=r"holds a different experiment \(model.num_steps: 10 -> 11\)"):
    Run.open(tmp_path, other)
  assert Run.open(tmp_path, other, ["model.num_steps"]).config.model.num_steps == 11
  with pytest.raises(RunError, match="are not those that"):
    start(tmp_path, config, sha256="1")
  assert (tmp_path / "config.json").read_text() == before


def test_a_longer_training_is_accepted_and_every_new_command_listed(tmp_path, config, monkeypatch):
  for command in ("main.py", "main.py --config.train.epochs=25", "main.py --config.train.epochs=25"):
    monkeypatch.setattr("sys.argv", command.split())
    start(tmp_path, config)
    config.train.epochs = 25
  assert records.read_config(tmp_path).to_dict() == config.to_dict()
  commands = [provenance["command"] for provenance in records.read_provenance(tmp_path)]
  assert commands == ["main.py", "main.py --config.train.epochs=25"]


def test_a_workdir_without_a_run_is_refused_where_one_is_needed(tmp_path, config):
  assert Run.open(tmp_path / "none", config, may_be_new=True).status is RunStatus.NO_EPOCH
  with pytest.raises(UsageError, match=r"has no config\.json"):
    Run.open(tmp_path, config)


def test_status(tmp_path, config):
  """From the first line of metrics.jsonl to results of the last epoch; longer training and patience change it."""

  def status(**train) -> RunStatus:
    config.train.update(train)
    return Run.open(tmp_path, config).status

  start(tmp_path, config)
  assert status() is RunStatus.NO_EPOCH
  write_metrics(tmp_path, -2.0)
  assert status() is RunStatus.UNFINISHED
  write_metrics(tmp_path, -2.0, -3.0, -4.0)
  assert status() is RunStatus.TRAINED
  results = dict.fromkeys(("train", "validation", "test"), BOUND) | {"epochs_trained": 3}
  records.write_results(tmp_path, results)
  assert status() is RunStatus.FINISHED
  assert status(epochs=4) is RunStatus.UNFINISHED
  assert Run.open(tmp_path, config).row()["status"] == "unfinished, evaluated at epoch 3"
  assert status(early_stopping_patience=2) is RunStatus.FINISHED
  run = Run.open(tmp_path, config)
  run = dataclasses.replace(run, lines=run.lines[:2], epochs=2)  # its checkpoint, if it was killed before the next
  assert (run.status, len(run.lines)) == (RunStatus.UNFINISHED, 2)
  (tmp_path / "metrics.jsonl").unlink()  # a copy with its results alone
  assert status() is RunStatus.FINISHED


def test_an_epoch_whose_bound_is_not_finite_is_not_the_best(tmp_path, config):
  start(tmp_path, config)
  write_metrics(tmp_path, float("nan"), -3.0, -float("inf"))
  row = Run.open(tmp_path, config).row()
  assert (row["best_epoch"], row["validation"]["elbo"]) == (2, -3.0)


def test_seeds_are_those_of_the_training(tmp_path, config):
  config.seed, config.train.num_seeds = 4, 2
  start(tmp_path, config)
  config.seed = 9
  assert Run.open(tmp_path, config, ["seed"]).seeds == range(4, 6)


def test_results_without_a_checkpoint_are_not_resumed(tmp_path, config):
  start(tmp_path, config)
  (tmp_path / "model.safetensors").touch()
  run = Run.open(tmp_path, config)
  run.check_resumable(newest=10)
  with pytest.raises(UsageError, match=r"has the model\.safetensors of a trained model but no checkpoint"):
    run.check_resumable(newest=None)
  assert not run.has_plots
  for name in PLOTS:
    (tmp_path / name).touch()
  assert Run.open(tmp_path, config).has_plots
