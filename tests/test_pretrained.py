"""Pretrained models: those that ship have the numbers of their results.json, and a finished run can become one."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny
from safetensors import safe_open

import latentjax
from benchmarks import pretrained as tool
from latentjax.data import dataset
from latentjax.data.sources import create_source
from latentjax.inference import pretrained
from latentjax.inference.trained_model import load_seed
from latentjax.runtime.errors import RunError, UsageError
from latentjax.workdir import records

TOLERANCE = 0.02  # nats per image: other machines round otherwise


@pytest.fixture(scope="module")
def mnist_test() -> np.ndarray:
  """The test split of MNIST, if TFDS has prepared it, as models of `mnist` are evaluated on it."""
  source = create_source("mnist")
  try:
    available = source._prepared is not None
  except RunError:  # no TFDS
    available = False
  if not available:
    pytest.skip("MNIST is not prepared in TFDS_DATA_DIR")
  examples = source._prepared._builder.as_data_source(split="test")
  return dataset.fixed_binarization(np.stack([example["image"] for example in examples]), "test")


def check_digits(name: str) -> None:
  """Asserts that the ELBO of the digits is that of results.json, of a model of such images."""
  model, results = latentjax.load(name), records.read_results(pretrained.find(name))
  expected = results.get("digits_elbo")
  assert tool.digits_elbo(model) == (None if expected is None else pytest.approx(expected, abs=TOLERANCE))
  assert results["command"]
  assert abs(results["float16_difference"]) < tool.LARGEST_DIFFERENCE


@pytest.mark.parametrize("name", pretrained.names())
def test_a_shipped_model_has_its_elbo_on_the_digits(name):
  check_digits(name)


@pytest.mark.parametrize("name", pretrained.names())
def test_a_shipped_model_has_its_elbo_on_the_test_set(name, request):
  model, results = latentjax.load(name), records.read_results(pretrained.find(name))
  data, binarization = results["data"], results["binarization"]
  if (data, binarization) == ("mnist", "dynamic"):
    images = request.getfixturevalue("mnist_test")
  elif dataset.is_prepared(data):
    images = dataset.load_dataset(data, binarization).test
  else:
    pytest.skip(f"{data} is not prepared")
  # Ten thousand images take longer than compiling with all optimizations.
  unoptimized = os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] == "1"
  jax.config.update("jax_disable_most_optimizations", unoptimized and len(images) < 1000)
  try:
    assert tool.mean_elbo(model, images) == pytest.approx(results["test"]["elbo"], abs=TOLERANCE)
  finally:
    jax.config.update("jax_disable_most_optimizations", unoptimized)


def test_the_digits_are_binary_images_that_are_the_callers_own():
  digits = latentjax.sample_digits()
  assert (digits.shape, digits.dtype) == ((200, 28, 28, 1), np.uint8)
  assert set(np.unique(digits)) == {0, 255}
  digits[:] = 0
  assert latentjax.sample_digits().any()


def test_the_digits_are_the_first_of_the_test_set(mnist_test):
  np.testing.assert_array_equal(latentjax.sample_digits(), mnist_test[:200])


@pytest.fixture(scope="module")
def shipped(trained_run, tmp_path_factory) -> Path:
  """The directory of pretrained models, with a tiny one, `draw-tiny`, of the run in `trained_run`."""
  workdir = shutil.copytree(trained_run("draw"), tmp_path_factory.mktemp("run") / "draw")
  config = json.loads((workdir / "config.json").read_text())
  config["run"][0]["command"] = "/home/me/main.py --config=draw --workdir /home/me/runs/draw '--config.a=b c'"
  (workdir / "config.json").write_text(json.dumps(config))
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(pretrained, "DIRECTORY", tmp_path_factory.mktemp("pretrained"))
    patch.setattr("sys.argv", ["pretrained", str(workdir), "draw-tiny", "--machine=a small one"])
    tool.main()
    yield pretrained.DIRECTORY


def test_a_finished_run_becomes_a_model_by_name(shipped, trained_run, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  check_digits("draw-tiny")
  workdir, model = trained_run("draw"), latentjax.load("draw-tiny")
  assert repr(model) == "<latentjax model: DRAW, filterbank attention, images (28, 28, 1)>"
  expected = jax.tree.map(lambda x: x.astype(np.float16).astype(np.float32), latentjax.load(workdir).variables)
  jax.tree.map(np.testing.assert_array_equal, model.variables, expected)
  with safe_open(shipped / "draw-tiny" / "model.safetensors", framework="np") as file:
    assert {file.get_tensor(name).dtype for name in file.keys()} == {np.dtype(np.float16)}  # noqa: SIM118

  results, found = records.read_results(workdir), records.read_results(shipped / "draw-tiny")
  assert found | results == found
  assert found["command"] == "main.py --config=draw '--config.a=b c'"
  assert (found["minutes"], found["machine"]) == (results["train_minutes"], "a small one")
  assert "/home/me" not in (shipped / "draw-tiny" / "config.json").read_text()
  assert latentjax.pretrained() == [
    pretrained.Pretrained(
      name="draw-tiny",
      model="DRAW, filterbank attention",
      data="tiny",
      parameters=results["parameters"],
      bytes=(shipped / "draw-tiny" / "model.safetensors").stat().st_size,
      test_elbo=results["test"]["elbo"],
      test_nll=results["test"]["nll"],
      nll_samples=3,
    )
  ]


def test_a_directory_with_a_run_comes_before_a_name(shipped, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "draw-tiny").mkdir()
  assert latentjax.load("draw-tiny").config.model.name == "draw"  # a directory without a run does not count
  (tmp_path / "draw-tiny").rmdir()
  tiny.write_untrained(tmp_path / "draw-tiny", "vae", (28, 28, 1))
  assert latentjax.load("draw-tiny").config.model.name == "vae"


@pytest.mark.parametrize("name", ["draw-tinny", "draw-tiny/..", ".", ""])
def test_an_unknown_name_lists_the_names(shipped, tmp_path, monkeypatch, name):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(ValueError, match=r"Pass a workdir .*, or the name of a pretrained model \(draw-tiny\)\.$"):
    latentjax.load(name)
  assert pretrained.find(name) is None


def test_a_run_that_does_not_suit_is_refused(shipped, trained_run, tmp_path, monkeypatch):
  workdir = shutil.copytree(trained_run("draw"), tmp_path / "draw")
  before = {path: path.read_bytes() for path in shipped.rglob("*") if path.is_file()}

  def too_large(*args):
    single = load_seed(*args)
    variables = jax.tree.map(lambda x: x + 1e5, single.variables)  # beyond float16
    return dataclasses.replace(single, variables=variables)

  with monkeypatch.context() as patch:
    patch.setattr(tool, "load_seed", too_large)
    with pytest.raises(UsageError, match=r"float16 weights change the test ELBO by .* nats\. Choose another run\."):
      tool.write_pretrained(workdir, "other")
  (workdir / "results.json").unlink()
  monkeypatch.setattr("sys.argv", ["pretrained", str(workdir), "other"])
  with pytest.raises(SystemExit, match=r"^error: .* is not a finished run of one seed\."):
    tool.main()
  assert {path: path.read_bytes() for path in shipped.rglob("*") if path.is_file()} == before
