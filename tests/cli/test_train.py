"""A training that was stopped, killed or damaged ends as if nothing had happened, or says why it cannot."""

import json
import os
import shutil
import signal
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny

from latentjax.cli import encode, evaluate, sample
from latentjax.cli.train import run
from latentjax.inference import evaluation
from latentjax.inference.trained_model import load_seed
from latentjax.runtime.errors import Interrupted, RunError, UsageError
from latentjax.training import results, trainer
from latentjax.training.experiment import create_experiment
from latentjax.training.state import TrainState
from latentjax.workdir import plots, records, weights
from latentjax.workdir.checkpoints import Checkpointer
from latentjax.workdir.directory import WorkdirLock
from latentjax.workdir.metrics_log import read_metrics
from latentjax.workdir.run import Run

EPOCHS, PER_EPOCH = 3, 3


def tiny_config():
  changes = {"train.epochs": EPOCHS, "train.steps_per_call": 1, "train.schedule": "cosine", "eval.nll_samples": 2}
  return tiny.create_config("vae", changes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
  """A run of three epochs of three steps that nothing disturbed; tests that change it copy it first."""
  workdir = tmp_path_factory.mktemp("runs") / "whole"
  run(tiny_config(), workdir)
  return workdir


def outcome(workdir: Path) -> tuple[list[dict], dict, list[bytes]]:
  """All that must not depend on interruptions: metrics, results, and the bytes of the newest state."""
  lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
  results = json.loads((workdir / "results.json").read_text())
  for tree in (*lines, results):
    for name in ("images_per_second", "seconds", "train_minutes", "evaluate_minutes"):
      tree.pop(name, None)
  state = newest_state(workdir)
  return lines, results, [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state)]


def test_a_run_says_what_its_epochs_were(whole):
  """The best epoch as it was validated; rates by hand; minutes of all epochs."""
  lines, results = read_metrics(whole), records.read_results(whole)
  assert results["epoch"] == 1 + int(np.argmax([line["validation"]["elbo"] for line in lines]))
  assert results["validation"]["elbo"] == pytest.approx(lines[results["epoch"] - 1]["validation"]["elbo"], rel=1e-6)
  train, last = tiny_config().train, np.array([2, 5, 8])  # the last step of each epoch
  falling = train.learning_rate * 0.5 * (1 + np.cos(np.pi * last / 9))
  np.testing.assert_allclose([line["learning_rate"] for line in lines], falling, rtol=1e-5)
  np.testing.assert_allclose([line["beta"] for line in lines], last / (train.kl_warmup_epochs * 3), rtol=1e-5)
  assert 0 < lines[0]["seconds"] < lines[1]["seconds"] < lines[2]["seconds"]
  assert results["train_minutes"] == pytest.approx(lines[2]["seconds"] / 60)


def test_every_epoch_has_an_order_of_its_own(tiny_cache, tmp_path, monkeypatch):
  compile_train, orders = trainer.compile_train, []

  def recorded(*args):
    advance = compile_train(*args)

    def call(state, images, order, *rest):
      orders.append(np.asarray(order))
      return advance(state, images, order, *rest)

    return call

  monkeypatch.setattr(trainer, "compile_train", recorded)
  run(tiny_config(), tmp_path / "run")
  experiment = create_experiment(tiny_config())
  order, keys = experiment.train_fns.order, experiment.keys
  expected = [order(jax.random.clone(keys.order), epoch) for epoch in range(EPOCHS) for _ in range(PER_EPOCH)]
  np.testing.assert_array_equal(orders, expected)
  assert (orders[0] != orders[PER_EPOCH]).any()


@pytest.mark.parametrize("bound", ["elbo", "importance_bound"])
def test_a_validation_that_is_no_number_ends_the_run_and_is_not_its_best(tiny_cache, tmp_path, monkeypatch, bound):
  validate, calls = trainer.validate, iter(range(1, 100))
  broken = {bound: float("nan")}
  monkeypatch.setattr(trainer, "validate", lambda *args: validate(*args) | (broken if next(calls) == 2 else {}))
  with pytest.raises(RunError, match="became NaN or infinite at step 6; the checkpoint of step 3 is kept"):
    run(tiny_config(), tmp_path / "run")
  assert Checkpointer(tmp_path / "run" / "checkpoints", read_only=True).best_steps == [3]
  assert len(read_metrics(tmp_path / "run")) == 1


def newest_state(workdir: Path) -> TrainState:
  experiment = create_experiment(tiny_config())
  checkpoints = Checkpointer(workdir / "checkpoints", read_only=True)
  return checkpoints.restore(checkpoints.latest_step, experiment.train_fns.init(experiment.keys.init))


def signal_in_call(patch: pytest.MonkeyPatch, call: int, number: int) -> None:
  """Sends this process a signal while a call of `steps.train` is under way."""
  compile_train = trainer.compile_train

  def compiled(*args):
    advance, calls = compile_train(*args), iter(range(1, 100))

    def interrupted(*args):
      if next(calls) == call:
        os.kill(os.getpid(), number)
      return advance(*args)

    return interrupted

  patch.setattr(trainer, "compile_train", compiled)


def signal_in_validation(patch: pytest.MonkeyPatch, epoch: int, number: int) -> None:
  validate, calls = trainer.validate, iter(range(1, 100))

  def interrupted(*args):
    if next(calls) == epoch:
      os.kill(os.getpid(), number)
    return validate(*args)

  patch.setattr(trainer, "validate", interrupted)


def test_stopping_anywhere_changes_nothing(whole, tmp_path):
  """In mid-epoch, at the end of an epoch's steps, and during validation, one after the other."""
  workdir = tmp_path / "stopped"
  for interrupt, when, number, step, best in (
    (signal_in_call, 2, signal.SIGTERM, 2, []),
    (signal_in_call, 1, signal.SIGINT, 3, []),
    (signal_in_call, 2, signal.SIGTERM, 5, [3]),
    (signal_in_validation, 1, signal.SIGINT, 6, [6]),  # which ends first, and is kept
  ):
    with pytest.MonkeyPatch.context() as patch:
      interrupt(patch, when, number)
      with pytest.raises(Interrupted) as stopped:
        run(tiny_config(), workdir)
    assert stopped.value.exit_code == 128 + number
    checkpoints = Checkpointer(workdir / "checkpoints", read_only=True)
    assert checkpoints.latest_step == step
    assert checkpoints.best_steps == best
  run(tiny_config(), workdir)
  assert outcome(workdir) == outcome(whole)
  run(tiny_config(), workdir)  # nothing left to do
  assert outcome(workdir) == outcome(whole)


def assert_is_the_best_checkpoint(workdir: Path) -> None:
  """model.safetensors holds the averaged weights of the best epoch so far."""
  experiment, checkpoints = create_experiment(tiny_config()), Checkpointer(workdir / "checkpoints", read_only=True)
  (step,), saved = checkpoints.best_steps, weights.read_weights(workdir / "model.safetensors")
  state = checkpoints.restore(step, experiment.train_fns.init(experiment.keys.init))
  assert state.average is not None
  assert saved.step == step
  jax.tree.map(np.testing.assert_array_equal, saved.variables, state.variables)


def test_a_model_can_be_opened_in_mid_training(whole, tmp_path, monkeypatch):
  """Of the best epoch so far, without data or checkpoints; also after a resume that found no file or an older one."""
  workdir, bounds = tmp_path / "stopped", iter([-3.0, -2.0, -4.0])
  validate = trainer.validate
  monkeypatch.setattr(trainer, "validate", lambda *args: validate(*args) | {"elbo": next(bounds)})

  def train_until(call):
    with pytest.MonkeyPatch.context() as patch:
      signal_in_call(patch, call, signal.SIGTERM)
      with pytest.raises(Interrupted):
        run(tiny_config(), workdir)

  train_until(2)
  with pytest.raises(UsageError, match="No trained model in"):
    load_seed(tiny_config(), workdir)
  train_until(2)  # the first step of the second epoch
  assert_is_the_best_checkpoint(workdir)
  first = (workdir / "model.safetensors").read_bytes()
  train_until(3)
  assert_is_the_best_checkpoint(workdir)
  second = (workdir / "model.safetensors").read_bytes()
  assert first != second
  for left in (None, first, second[:-300]):
    (workdir / "model.safetensors").unlink()
    if left is not None:
      (workdir / "model.safetensors").write_bytes(left)
    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(trainer, "train_epochs", lambda *args: (_ for _ in ()).throw(Interrupted(signal.SIGTERM)))
      with pytest.raises(Interrupted):
        run(tiny_config(), workdir)
    assert (workdir / "model.safetensors").read_bytes() == second
  shutil.copytree(workdir, tmp_path / "copy", ignore=shutil.ignore_patterns("checkpoints"))
  assert load_seed(tiny_config(), tmp_path / "copy").step == 2 * PER_EPOCH

  monkeypatch.setattr(results, "evaluate_and_write", lambda *args: None)
  run(tiny_config(), workdir)  # its last epoch is worse
  assert Checkpointer(workdir / "checkpoints", read_only=True).latest_step == EPOCHS * PER_EPOCH
  assert (workdir / "model.safetensors").read_bytes() == second


def test_a_stop_in_mid_epoch_changes_nothing_for_images_fed_from_the_host(tmp_path):
  config, whole = tiny_config(), tmp_path / "whole"
  config.update_from_flattened_dict({"data.placement": "host", "train.steps_per_call": 2})
  run(config, whole)
  workdir = tmp_path / "stopped"
  with pytest.MonkeyPatch.context() as patch:
    signal_in_call(patch, 3, signal.SIGTERM)
    with pytest.raises(Interrupted):
      run(config, workdir)
  assert Checkpointer(workdir / "checkpoints", read_only=True).latest_step == 5
  run(config, workdir)
  assert outcome(workdir) == outcome(whole)


def newest_folder(workdir: Path) -> Path:
  return workdir / "checkpoints" / str(EPOCHS * PER_EPOCH)


def flip(path: Path) -> None:
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 4
  path.write_bytes(bytes(content))


def largest_file(folder: Path) -> Path:
  return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


DAMAGES = {
  "flipped": lambda folder: flip(largest_file(folder)),
  "truncated": lambda folder: os.truncate(largest_file(folder), 100),
  "manifest": lambda folder: flip(folder / "manifest.json"),
  "half a folder": lambda folder: shutil.rmtree(folder / "state"),
  "no folder": shutil.rmtree,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_checkpoint_is_reported_and_the_one_before_used(whole, tmp_path, capsys, damage):
  workdir = shutil.copytree(whole, tmp_path / "damaged")
  DAMAGES[damage](newest_folder(workdir))
  capsys.readouterr()
  run(tiny_config(), workdir)
  said = capsys.readouterr().out
  a_quarter = 0.25 * tiny_config().train.learning_rate  # (1 + cos(2 pi / 3)) / 2
  assert f"resuming after epoch 2 of 3, at a learning rate of {a_quarter:.2g}\n" in said
  assert said.count("Ignoring the checkpoint of step 9: ") == (damage != "no folder")
  assert outcome(workdir) == outcome(whole)


def test_no_whole_checkpoint_is_refused(whole, tmp_path):
  workdir = shutil.copytree(whole, tmp_path / "damaged")
  for folder in (workdir / "checkpoints").iterdir():
    flip(largest_file(folder))
  before = (workdir / "metrics.jsonl").read_text()
  with pytest.raises(RunError, match=r"No checkpoint in .* is intact"):
    run(tiny_config(), workdir)
  assert (workdir / "metrics.jsonl").read_text() == before


@pytest.mark.parametrize("kept", ["model.safetensors", "results.json"])
def test_results_without_a_checkpoint_are_not_trained_over(whole, tmp_path, kept):
  for name in ("config.json", kept):
    shutil.copy(whole / name, tmp_path / name)
  with pytest.raises(UsageError, match=f"has the {kept} of a trained model but no checkpoint to resume from"):
    run(tiny_config(), tmp_path)
  assert (tmp_path / kept).read_bytes() == (whole / kept).read_bytes()
  with pytest.raises(UsageError, match="has no checkpoint"):
    evaluate.run(tiny_config(), tmp_path)


def test_a_quick_look_writes_nothing(whole, tmp_path, monkeypatch, capsys):
  """Not even where nothing has been written yet, or can be; a training that ends with one does, to be finished."""
  workdir, quick = shutil.copytree(whole, tmp_path / "copy"), tiny_config()
  quick.eval.num_examples = 4
  (workdir / "results.json").unlink()
  (workdir / "model.safetensors").unlink()
  before = {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}
  with monkeypatch.context() as patch:
    patch.setattr(os, "access", lambda path, mode: False)
    evaluate.run(quick, workdir)
  said = capsys.readouterr().out
  assert "on the first 4 images of each split only" in said
  assert "eval.num_examples is above 0: nothing is written\n" in said
  assert {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()} == before
  run(quick, workdir)
  assert records.read_results(workdir)["test"]["num_examples"] == 4
  assert (workdir / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def strict_json(text: str):
  def refuse(constant):
    raise AssertionError(constant)

  return json.loads(text, parse_constant=refuse)


def test_a_result_that_is_not_finite_is_named_and_null_and_blocks_nothing(whole, tmp_path, monkeypatch, capsys):
  workdir, nan = shutil.copytree(whole, tmp_path / "copy"), float("nan")
  broken = {"nll": nan, "nll_stderr": nan, "nll_samples": 2, "nll_curve": [[1, 90.5], [2, float("inf")]]}
  monkeypatch.setattr(evaluation, "negative_log_likelihood", lambda *args: broken)
  evaluate.run(tiny_config(), workdir)
  said = capsys.readouterr().out
  assert "NaN or infinite, written as null: test nll, test nll_stderr, test nll_curve. Try a lower train.learn" in said
  assert "NLL by K: 90.50 (K = 1), - (K = 2)" in said
  test = strict_json((workdir / "results.json").read_text())["test"]
  assert (test["nll"], test["nll_stderr"], test["nll_curve"]) == (None, None, [[1, 90.5], [2, None]])
  text = (workdir / "results.json").read_text()
  (workdir / "results.json").write_text(text.replace('"nll": null', '"nll": NaN'))  # as earlier versions wrote it
  run(tiny_config(), workdir)
  assert "There is nothing left to train" in capsys.readouterr().out
  assert Run.open(workdir).results["test"] == test


def test_results_are_written_before_pictures_none_of_which_is_needed(whole, tmp_path, monkeypatch, capsys):
  """The same command draws what is missing; `latentjax sample`, which only draws, fails."""
  workdir, text = shutil.copytree(whole, tmp_path / "copy"), "no\nTeX"
  before = {path.name for path in workdir.iterdir()}
  (workdir / "results.json").unlink()
  found = []

  def fail(*args):
    found.append((workdir / "results.json").exists() and not (workdir / "loss.png").exists())
    raise RuntimeError(text)

  with monkeypatch.context() as patch:
    for name in ("save_traversals", "save_groups", "save_reconstructions"):
      patch.setattr(plots, name, fail)
    run(tiny_config(), workdir)
    said = capsys.readouterr().out
    failed = ("groups.png", "reconstructions.png", "traversals.png")
    for name in failed:
      assert f"Cannot draw {workdir / name} (RuntimeError: no TeX).\n" in said
    assert {path.name for path in workdir.iterdir()} == before - {*failed}
    assert found == [True] * 3
    with pytest.raises(RunError, match=r"reconstructions\.png, traversals\.png could not be drawn"):
      sample.run(tiny_config(), workdir)
  run(tiny_config(), workdir)
  assert {path.name for path in workdir.iterdir()} == before
  assert outcome(workdir) == outcome(whole)


def test_what_cannot_be_written_is_not_evaluated_first(whole, monkeypatch):
  monkeypatch.setattr(os, "access", lambda path, mode: False)
  monkeypatch.setattr(results, "measure_seed", None)
  with pytest.raises(RunError, match="Cannot write to"):
    evaluate.run(tiny_config(), whole)


def test_metrics_that_lack_an_epoch_are_refused(whole, tmp_path):
  workdir = shutil.copytree(whole, tmp_path / "damaged")
  lines = (workdir / "metrics.jsonl").read_text().splitlines(keepends=True)
  (workdir / "results.json").unlink()
  config, longer = (workdir / "config.json").read_text(), tiny_config()
  longer.train.epochs += 1
  for damaged in (lines[:2], [lines[0], lines[2]], [*lines[:2], lines[2][:40]]):
    (workdir / "metrics.jsonl").write_text("".join(damaged))
    with pytest.raises(RunError, match=r"metrics\.jsonl (ends at epoch 2|is damaged)"):
      run(longer, workdir)
  assert (workdir / "config.json").read_text() == config


def test_other_images_under_the_same_name_are_refused(whole, tiny_cache, tmp_path, monkeypatch):
  workdir = shutil.copytree(whole, tmp_path / "copy")
  (workdir / "results.json").unlink()
  with np.load(tiny_cache / "tiny.npz") as arrays:
    np.savez(tmp_path / "tiny.npz", **{name: 255 - images for name, images in arrays.items()})
  monkeypatch.setenv("LATENTJAX_CACHE_DIR", str(tmp_path))
  for mode in (run, evaluate.run, lambda config, workdir: encode.run(config, None, workdir)):
    with pytest.raises(RunError, match="The images of tiny are not those that"):
      mode(tiny_config(), workdir)


def test_a_second_training_in_a_workdir_is_refused(whole):
  with WorkdirLock(whole), pytest.raises(RunError, match=r"Process \d+ on .* is using"):
    run(tiny_config(), whole)
  with WorkdirLock(whole):
    evaluate.run(tiny_config(), whole)  # reading beside it is allowed


def test_weights_of_a_training_in_progress_survive_an_evaluation(whole, tmp_path, monkeypatch):
  workdir, measure = shutil.copytree(whole, tmp_path / "copy"), results.measure_seed

  def improve_meanwhile(*args):
    (workdir / "model.safetensors").write_bytes(b"better")
    return measure(*args)

  monkeypatch.setattr(results, "measure_seed", improve_meanwhile)
  evaluate.run(tiny_config(), workdir)
  assert (workdir / "model.safetensors").read_bytes() == b"better"


def test_checkpoints_without_a_config_are_not_gone_on_with(whole, tmp_path):
  workdir = shutil.copytree(whole, tmp_path / "run")
  (workdir / "config.json").unlink()
  with pytest.raises(UsageError, match=r"has checkpoints but no config\.json"):
    run(tiny_config(), workdir)
  assert (workdir / "results.json").read_bytes() == (whole / "results.json").read_bytes()
