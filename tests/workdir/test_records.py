"""The record survives what a killed run leaves, and refuses what it cannot trust."""

import codecs
import errno
import importlib
import json
import os

import pytest

from latentjax.runtime.errors import RunError
from latentjax.runtime.fileio import dump_json, load_json, write_atomic
from latentjax.workdir import records
from latentjax.workdir.protocol import SPLITS, TERMS


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


def test_damaged_results_are_named(tmp_path):
  for text in ("{", "[]", "{}"):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(RunError, match=r"results.json is damaged"):
      records.read_results(tmp_path)


def test_numbers_that_json_lacks_are_null():
  infinite = float("inf")
  text = dump_json({"a": [float("nan"), {"b": -infinite}], "c": (1.5, True, "NaN")})
  assert json.loads(text) == {"a": [None, {"b": None}], "c": [1.5, True, "NaN"]}
  assert load_json('{"a": NaN, "b": [-Infinity, 1e999, 2]}') == {"a": None, "b": [None, None, 2]}


def test_a_byte_order_mark_is_no_damage(tmp_path, config):
  records.write_config(tmp_path, config, SHAPE, ORIGIN)
  records.write_results(tmp_path, dict.fromkeys(SPLITS, dict.fromkeys(TERMS, 1.0)))
  for name in ("config.json", "results.json"):
    (tmp_path / name).write_bytes(codecs.BOM_UTF8 + (tmp_path / name).read_bytes())
  assert records.read_config(tmp_path).to_dict() == config.to_dict()
  assert records.read_provenance(tmp_path) == [ORIGIN]
  assert records.read_results(tmp_path)["test"] == dict.fromkeys(TERMS, 1.0)


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
