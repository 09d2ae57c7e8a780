"""metrics.jsonl and TensorBoard events have every epoch once, also after kills and resumes."""

import codecs
import json
import math

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from latentjax.runtime.errors import RunError
from latentjax.workdir.metrics_log import MetricWriter, epochs_since_best, read_metrics, validation_bounds

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


def events(path) -> list[Event]:
  """The records of an event file: length, checksum, content, checksum."""
  content, found = path.read_bytes(), []
  while content:
    end = 12 + int.from_bytes(content[:8], "little")
    found.append(Event.FromString(content[12:end]))
    content = content[end + 4 :]
  return found


def test_lines_after_the_checkpoint_are_dropped(tmp_path, capsys):
  with MetricWriter(tmp_path, epoch=0) as log:
    for epoch in (1, 2, 3):
      log.append(line_of(epoch))
  with (tmp_path / "metrics.jsonl").open("a") as file:
    file.write('{"step": 4')
  with MetricWriter(tmp_path, epoch=2) as log:
    assert [line["epoch"] for line in log.lines] == [1, 2]
    log.append(line_of(3) | {"validation": BOUND | {"elbo": -9.0}})
  ignored = f"Ignoring line 4 of {tmp_path / 'metrics.jsonl'}, its last, which is incomplete.\n"
  assert capsys.readouterr().out == ignored
  written = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
  assert [line["epoch"] for line in written] == [1, 2, 3]
  assert written[-1]["validation"]["elbo"] == -9.0


def test_a_missing_epoch_is_an_error(tmp_path):
  with MetricWriter(tmp_path, epoch=0) as log:
    log.append(line_of(1))
  with pytest.raises(RunError, match="ends at epoch 1, but the checkpoint is of epoch 2"):
    MetricWriter(tmp_path, epoch=2)


def test_tensorboard_has_every_number_and_the_step_from_which_epochs_are_repeated(tmp_path):
  with MetricWriter(tmp_path, epoch=0) as log:
    log.append(line_of(1))
  with MetricWriter(tmp_path, epoch=1) as log:
    log.append(line_of(2))
  first, second = sorted((tmp_path / "tensorboard").iterdir(), key=lambda path: path.stat().st_mtime_ns)
  assert [event.step for event in events(first)] == [0, 0, 10]
  version, started, epoch = events(second)
  assert version.file_version == "brain.Event:2"
  assert (started.step, started.session_log.status) == (11, SessionLog.START)
  scalars = {value.tag: value.simple_value for value in epoch.summary.value}
  assert scalars == {f"{split}/{key}": value for split in ("train", "validation") for key, value in BOUND.items()} | {
    "seconds": 1.5,
    "images_per_second": 9.0,
  }


def test_a_number_that_is_not_finite_is_null_and_no_best_epoch(tmp_path):
  nan = BOUND | {"elbo": float("nan")}
  with MetricWriter(tmp_path, epoch=0) as log:
    log.append(line_of(1) | {"validation": nan})
    log.append(line_of(2))
  text = (tmp_path / "metrics.jsonl").read_text()
  assert '"validation": {"elbo": null, ' in text
  earlier = text.replace("null", "NaN")  # as earlier versions wrote it
  (tmp_path / "metrics.jsonl").write_bytes(codecs.BOM_UTF8 + earlier.encode())
  first, second = lines = read_metrics(tmp_path)
  assert first["validation"] == BOUND | {"elbo": None}
  assert (validation_bounds(first), validation_bounds(second)) == ([-math.inf], [-3.0])
  assert (epochs_since_best(lines), epochs_since_best([second, first])) == (0, 1)
  with MetricWriter(tmp_path, epoch=2) as log:
    log.append(first | {"epoch": 3})  # None is no scalar of TensorBoard


def test_damaged_lines_are_named(tmp_path, capsys):
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
