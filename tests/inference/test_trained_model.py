"""Loading of trained models: their files hold the evaluated weights, and no data are needed."""

import json
import shutil
import sys

import jax
import numpy as np
import pytest
import tiny

from latentjax.cli import sample, train
from latentjax.inference import evaluation
from latentjax.inference.trained_model import load_first_seed, load_seed
from latentjax.runtime.errors import RunError, UsageError
from latentjax.training.experiment import create_experiment
from latentjax.workdir import records, weights
from latentjax.workdir.run import Run


@pytest.fixture(scope="module", params=["vae", "ladder_vae with two seeds", "draw"])
def run(request, trained_run, tmp_path_factory):
  """(config, workdir) of a finished run; tests that change it copy it first."""
  if request.param in tiny.MODELS:
    workdir = trained_run(request.param)
  else:
    workdir = tmp_path_factory.mktemp("runs") / "two"
    train.run(tiny.create_config("ladder_vae", {"train.num_seeds": 2, "train.epochs": 2}), workdir)
  return records.read_config(workdir), workdir


@pytest.fixture
def without_data(monkeypatch, tmp_path):
  """An empty cache, without TFDS to fill it."""
  monkeypatch.setenv("LATENTJAX_CACHE_DIR", str(tmp_path / "cache"))
  monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)


def test_loaded_seeds_reproduce_their_results(run):
  """Batch-norm statistics included."""
  config, workdir = run
  results = json.loads((workdir / "results.json").read_text())
  data = create_experiment(config).data
  for index in range(config.train.num_seeds):
    one = load_seed(config, workdir, index)
    bound = evaluation.evaluate_elbo(one.inference, one.variables, data.test, one.keys.evaluate, config.eval.batch_size)
    expected = results["seeds"][str(config.seed + index)] if "seeds" in results else results
    assert bound["elbo"] == expected["test"]["elbo"]
    assert one.step == expected["step"]


def test_samples_need_no_data(run, without_data, tmp_path, capsys):
  """config.json and the weights suffice, without checkpoints; the samples are those of the run."""
  config, workdir = run
  bare = tmp_path / "bare"
  bare.mkdir()
  for name in ("config.json", weights.weights_name(config.train.num_seeds)):
    shutil.copy(workdir / name, bare)
  sample.run(config, bare)
  output = capsys.readouterr().out
  assert "No test images of tiny (data.name = tiny is not decoded yet, and decoding needs TFDS" in output
  assert (bare / "samples.png").read_bytes() == (workdir / "samples.png").read_bytes()
  assert not (bare / "reconstructions.png").exists()


def test_later_formats_are_refused(run, tmp_path):
  config, workdir = run
  later = shutil.copytree(workdir, tmp_path / "later")
  (later / "config.json").write_text(json.dumps({"format": 2, "sections": {}}))
  for call in (sample.run, train.run):
    with pytest.raises(RunError, match=r"config\.json has format 2, and this version of latentjax reads up to 1"):
      call(config, later)


def test_results_of_another_epoch_are_reported(run, tmp_path, capsys):
  config, workdir = run
  copy = shutil.copytree(workdir, tmp_path / "copy")
  saved = weights.read_weights(copy / weights.weights_name(config.train.num_seeds))
  results = records.read_results(copy)
  one = results["seeds"][str(config.seed)] if "seeds" in results else results
  one["step"] -= 1
  records.write_results(copy, results)
  for place, expected in ((copy, True), (workdir, False)):
    assert load_first_seed(Run.open(place)).step == saved.step
    assert ("results.json belongs to another epoch" in " ".join(capsys.readouterr().out.split())) == expected


def test_weights_of_another_model_are_refused(run, tmp_path):
  config, workdir = run
  name = weights.weights_name(config.train.num_seeds)
  found = weights.read_weights(workdir / name)
  other = jax.tree.map(lambda x: x[..., :-1], found.variables)
  weights.write_weights(tmp_path / name, found.image_shape, 0, found.step, other)
  with pytest.raises(RunError, match=f"{name} does not match"):
    load_seed(config, tmp_path)


def test_runs_without_a_model_are_refused(run, tmp_path):
  config, _ = run
  with pytest.raises(UsageError, match=r"No trained model in .* \(model.*\.safetensors is missing\)\. Run "):
    load_seed(config, tmp_path)


def test_changed_datasets_give_no_test_images(run, tmp_path, monkeypatch, capsys):
  """Their test split may include images that the model was trained on."""
  config, workdir = run
  (tmp_path / "cache").mkdir()
  splits = {split: np.zeros((20, 9, 7, 1), np.uint8) for split in ("train", "validation", "test")}
  np.savez(tmp_path / "cache" / "tiny.npz", **splits)
  monkeypatch.setenv("LATENTJAX_CACHE_DIR", str(tmp_path / "cache"))
  assert sample.load_test_images(Run.open(workdir, config)) is None
  assert "The images of tiny are not those that" in capsys.readouterr().out
