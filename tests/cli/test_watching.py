"""Ending early, pictures and a profile: observing a training must not change it."""

import io
import os
import signal
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny
from PIL import Image
from tensorboardX.proto.event_pb2 import Event

from latentjax.cli import sweep, train
from latentjax.runtime.errors import Interrupted
from latentjax.training import trainer
from latentjax.training.experiment import create_experiment
from latentjax.workdir import plots, records
from latentjax.workdir.checkpoints import Checkpointer
from latentjax.workdir.metrics_log import epochs_since_best, read_metrics

ELBOS = [-100.0, -90.0, -95.0, -90.0, -80.0, -70.0]  # on validation, after each epoch: two without a gain after two
PER_EPOCH = 3


def tiny_config():
  train = {"epochs": len(ELBOS), "early_stopping_patience": 2, "steps_per_call": 2, "log_images_every": 2}
  changes = {"train.schedule": "cosine", "eval.nll_samples": 2} | {
    f"train.{key}": value for key, value in train.items()
  }
  return tiny.create_config("vae", changes)


@pytest.fixture(scope="module", autouse=True)
def validated():
  """Validation returns `ELBOS`, whatever is trained."""
  validate = trainer.validate

  def said(experiment, state):
    return validate(experiment, state) | {"elbo": ELBOS[int(state.step) // PER_EPOCH - 1]}

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(trainer, "validate", said)
    yield


@pytest.fixture(scope="module")
def whole(tiny_cache, tmp_path_factory) -> Path:
  """A run that nothing disturbed."""
  workdir = tmp_path_factory.mktemp("runs") / "whole"
  train.run(tiny_config(), workdir)
  return workdir


def kept(workdir: Path) -> tuple[list[dict], list[bytes]]:
  """Epochs with their bounds, and the bytes of the newest state."""
  lines = [{key: line[key] for key in ("epoch", "train", "validation")} for line in read_metrics(workdir)]
  config = records.read_config(workdir)
  experiment, checkpoints = create_experiment(config), Checkpointer(workdir / "checkpoints", read_only=True)
  state = checkpoints.restore(checkpoints.latest_step, experiment.train_fns.init(experiment.keys.init))
  return lines, [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state)]


def events(workdir: Path) -> list[Event]:
  found = []
  for path in sorted((workdir / "tensorboard").glob("events.*"), key=lambda path: path.stat().st_mtime_ns):
    content = path.read_bytes()
    while content:
      end = 12 + int.from_bytes(content[:8], "little")
      found.append(Event.FromString(content[12:end]))
      content = content[end + 4 :]
  return found


def test_patience_ends_a_run_which_resumed_ends_there_too(whole, tmp_path, monkeypatch, capsys):
  config, halves = tiny_config(), tmp_path / "halves"
  assert [line["epoch"] for line in read_metrics(whole)] == [1, 2, 3, 4]
  assert records.read_results(whole)["epoch"] == 2

  compiled = trainer.compile_train
  with monkeypatch.context() as patch:
    patch.setattr(trainer, "compile_train", lambda *args: stopping_at(2 * PER_EPOCH, compiled(*args)))
    with pytest.raises(Interrupted):  # in the middle of the third epoch
      train.run(config, halves)
  config.train.profile_steps = 1
  train.run(config, halves)
  assert kept(halves) == kept(whole)
  assert list((halves / "tensorboard" / "plugins" / "profile").rglob("*.xplane.pb"))
  assert not (whole / "tensorboard" / "plugins").exists()

  capsys.readouterr()
  train.run(config, halves)
  sweep.run_one(config, halves)
  said = capsys.readouterr().out
  assert "nothing left to train" in said
  assert said.endswith("already finished\n")

  config.train.early_stopping_patience = 3
  train.run(config, halves)
  assert [line["epoch"] for line in read_metrics(halves)] == [1, 2, 3, 4, 5, 6]


def test_the_importance_weighted_bound_chooses_where_there_is_one(tiny_cache, tmp_path, monkeypatch):
  """It falls from the second epoch on, where the ELBO rises at last: patience and the best checkpoint go by it."""
  validate, bounds = trainer.validate, [-60.0, -50.0, -55.0, -58.0]

  def said(experiment, state):
    return validate(experiment, state) | {"importance_bound": bounds[int(state.step) // PER_EPOCH - 1]}

  monkeypatch.setattr(trainer, "validate", said)
  monkeypatch.setattr(f"{__name__}.ELBOS", [-100.0, -90.0, -80.0, -70.0])
  train.run(tiny_config(), tmp_path / "run")
  assert len(read_metrics(tmp_path / "run")) == 4
  assert Checkpointer(tmp_path / "run" / "checkpoints", read_only=True).best_steps == [2 * PER_EPOCH]
  assert records.read_results(tmp_path / "run")["epoch"] == 2


def stopping_at(step: int, compiled):
  def call(state, *args):
    if int(state.step) == step:
      os.kill(os.getpid(), signal.SIGTERM)
    return compiled(state, *args)

  return call


def test_tensorboard_has_pictures_and_what_was_tried(whole):
  values = [(event.step, value) for event in events(whole) for value in event.summary.value]
  pictures = {(step, value.tag): value.image for step, value in values if value.image.width}
  assert pictures.keys() == {(epoch * PER_EPOCH, name) for epoch in (2, 4) for name in ("samples", "reconstructions")}
  for (_, name), picture in pictures.items():
    with Image.open(io.BytesIO(picture.encoded_image_string)) as sheet:
      assert sheet.size == (picture.width, picture.height)
      assert picture.width == 2 * (plots.TILE_PIXELS + 2)
      assert picture.height == (2 if name == "samples" else 4) * (plots.TILE_PIXELS + 2)
      assert np.asarray(sheet).std() > 0
  (started,) = [value for _, value in values if value.tag.endswith("session_start_info")]
  content = started.metadata.plugin_data.content
  for text in (b"train.learning_rate", b"model.hidden_dims", b"(8,)", b"data.name", b"tiny"):
    assert text in content
  assert b"benchmark" not in content


def test_results_name_what_they_are_of(whole):
  names = {"model": "VAE", "likelihood": "Bernoulli", "data": "tiny", "binarization": "dynamic"}
  assert names.items() <= records.read_results(whole).items()


def line_of(*seeds: float, **bound) -> dict:
  if len(seeds) == 1:
    return {"validation": {"elbo": seeds[0], **bound}}
  return {"validation": {"elbo": 0.0}, "seeds": {str(seed): line_of(elbo) for seed, elbo in enumerate(seeds)}}


def test_epochs_since_the_best():
  assert epochs_since_best([]) == 0
  assert epochs_since_best([line_of(-3.0)]) == 0
  assert epochs_since_best([line_of(-3.0), line_of(-2.0), line_of(-2.0), line_of(-4.0)]) == 2
  late = [line_of(-3.0), line_of(-9.0, importance_bound=-2.0), line_of(-1.0, importance_bound=-2.5)]
  assert epochs_since_best(late) == 1
  assert epochs_since_best([line_of(-3.0, -3.0), line_of(-4.0, -2.0), line_of(-5.0, -4.0)]) == 1
