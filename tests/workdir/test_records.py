"""The record survives what a killed run leaves, and refuses what it cannot trust."""

import errno
import importlib
import json
import os

import pytest

from latentjax.runtime.errors import RunError
from latentjax.runtime.fileio import write_atomic
from latentjax.workdir import records
from latentjax.workdir.metrics_log import read_metrics


@pytest.fixture
def config():
  return importlib.import_module("configs.draw").get_config()


SHAPE = (28, 28, 1)
ORIGIN = {"command": "main.py", "dataset_sha256": "0"}


DAMAGED = {
  "truncated": lambda text: text[:-9],
  "no text": lambda text: "\udcff\udcfe",
  "no config": lambda text: "[]",
  "a lost key": lambda text: text.replace('"beta"', '"bet`"'),
  "a lost section": lambda text: text.replace('"train"', '"tsain"'),
  "a number that became text": lambda text: text.replace('"seed": 0', '"seed": "0"'),
  "an impossible value": lambda text: text.replace('"seed": 0', '"seed": -1'),
  "no format": lambda text: text.replace('"format"', '"forma"'),
  "another type of format": lambda text: text.replace('"format": 1', '"format": "1"'),
  "no image shape": lambda text: text.replace('"image_shape"', '"image_shap"'),
  "origins": lambda text: text.replace("dataset_sha256", "dataset_sha257"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_config_is_named(tmp_path, config, damage):
  records.write_config(tmp_path, config, SHAPE, ORIGIN)
  path = tmp_path / "config.json"
  path.write_text(DAMAGED[damage](path.read_text()), errors="surrogateescape")
  with pytest.raises(RunError, match=r"config\.json is damaged") as error:
    records.read_config(tmp_path)
  assert len(str(error.value).splitlines()) == 1


BOUND = {"elbo": -3.0, "kl": 1.0, "reconstruction": 2.0}


def line_of(epoch: int) -> dict:
  return {
    "step": 10 * epoch,
    "epoch": epoch,
    "train": BOUND,
    "validation": BOUND,
    "seconds": 1.5,
    "images_per_second": 9.0,
  }


def test_damaged_lines_and_results_are_named(tmp_path, capsys):
  path = tmp_path / "metrics.jsonl"
  lines = [json.dumps(line_of(epoch)) for epoch in (1, 2, 3)]
  damages = {
    2: (
      ["not json"],
      ["{}"],
      ["[]"],
      [lines[1].replace("kl", "km")],
      [lines[2]],
    ),
    3: ([lines[1], lines[1]], [lines[1], "3"], [lines[1], "not json"]),
  }
  for number, texts in damages.items():
    for text in texts:
      path.write_text("\n".join([lines[0], *text, lines[2]][: max(3, number)]) + "\n")
      with pytest.raises(RunError, match=f"Line {number} of"):
        read_metrics(tmp_path)
  capsys.readouterr()
  for kept in (2, 0):
    path.write_text("\n".join(lines[: kept + 1])[:-5])
    assert read_metrics(tmp_path) == [line_of(1), line_of(2)][:kept]
    assert capsys.readouterr().out == f"Ignoring line {kept + 1} of {path}, its last, which is incomplete.\n"
  for text in ("{", "[]", "{}"):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(RunError, match=r"results.json is damaged"):
      records.read_results(tmp_path)


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
  path = tmp_path / "results.json"
  write_atomic(path, "old")
  (tmp_path / f"results.json.{os.getpid()}.tmp").mkdir()  # what a full disk does to the new text: it cannot be written
  with pytest.raises(RunError, match="Cannot write"):
    write_atomic(path, "new")
  assert path.read_text() == "old"


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
  def full(number):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  monkeypatch.setattr(os, "fsync", full)
  with pytest.raises(RunError, match=r"report.html \(No space left on device\)"):
    write_atomic(tmp_path / "report.html", "page")
  assert list(tmp_path.iterdir()) == []
