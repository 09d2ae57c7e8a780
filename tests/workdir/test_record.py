"""The record survives what a killed run leaves, and refuses what it cannot trust."""

import importlib
import json

import pytest

from latentjax.errors import RunError, UsageError
from latentjax.workdir import record


@pytest.fixture
def config():
  return importlib.import_module("configs.draw").get_config()


def test_claim_keeps_a_different_experiment_as_it_was(tmp_path, config):
  record.claim(tmp_path, config)
  before = (tmp_path / "config.json").read_text()
  other = config.copy_and_resolve_references()
  other.model.num_steps += 1
  with pytest.raises(UsageError, match=r"model.num_steps: 10 -> 11"):
    record.claim(tmp_path, other)
  assert (tmp_path / "config.json").read_text() == before


def test_claim_takes_up_a_longer_training(tmp_path, config):
  record.claim(tmp_path, config)
  config.train.epochs += 1
  record.claim(tmp_path, config)
  assert record.read_config(tmp_path).train.epochs == config.train.epochs


def test_log_forgets_what_came_after_the_checkpoint(tmp_path):
  with record.MetricsLog(tmp_path, epoch=0) as log:
    for epoch in (1, 2, 3):
      log.append({"step": 10 * epoch, "epoch": epoch, "validation": {"elbo": -float(epoch)}})
  with (tmp_path / "metrics.jsonl").open("a") as file:
    file.write('{"step": 4')
  with record.MetricsLog(tmp_path, epoch=2) as log:
    assert [line["epoch"] for line in log.lines] == [1, 2]
    log.append({"step": 30, "epoch": 3, "validation": {"elbo": -9.0}})
  written = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
  assert [line["epoch"] for line in written] == [1, 2, 3]
  assert written[-1]["validation"]["elbo"] == -9.0


def test_damaged_lines_and_results_are_named(tmp_path):
  (tmp_path / "metrics.jsonl").write_text('{"epoch": 1}\nnot json\n{"epoch": 3}\n')
  with pytest.raises(RunError, match="line 2 of"):
    record.read_lines(tmp_path)
  (tmp_path / "results.json").write_text("{")
  with pytest.raises(RunError, match=r"results.json is damaged"):
    record.read_results(tmp_path)


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
  path = tmp_path / "results.json"
  record.write_whole(path, "old")
  (tmp_path / "results.json.tmp").mkdir()  # what a full disk does to the new text: it cannot be written
  with pytest.raises(RunError, match="cannot write"):
    record.write_whole(path, "new")
  assert path.read_text() == "old"
