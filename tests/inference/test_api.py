"""A trained model opened from Python: without its data, by its public face alone."""

import importlib
import json
import shutil
import subprocess
import sys
from unittest.mock import Mock

import jax
import numpy as np
import pytest

import latentjax
from latentjax.cli import train
from latentjax.inference import api, evaluation

SMALL = {
  "draw": {"num_steps": 3, "hidden_dim": 6, "latent_dim": 2, "read_size": 2, "write_size": 3},
  "ladder_vae": {"hidden_dims": (8, 6), "latent_dims": (3, 2)},
  "vae": {"hidden_dims": (8,), "latent_dim": 2},
}
LATENT_DIMS = {"draw": (2, 2, 2), "ladder_vae": (3, 2), "vae": (2,)}


def config_of(name: str, **changes):
  config = importlib.import_module(f"configs.{name}").get_config()
  config.model.update(SMALL[name])
  tiny = {"data.name": "tiny", "train.batch_size": 16, "train.epochs": 1, "eval.nll_samples": 3, "sample.num_images": 3}
  config.update_from_flattened_dict(tiny | changes)
  return config


@pytest.fixture(scope="module", params=sorted(SMALL))
def run(request, tiny_cache, tmp_path_factory):
  """(workdir, model's name) of a run that was trained and evaluated."""
  workdir = tmp_path_factory.mktemp("load") / request.param
  train.run(config_of(request.param), workdir)
  return workdir, request.param


@pytest.fixture(scope="module")
def images(tiny_cache):
  with np.load(tiny_cache / "tiny.npz") as arrays:
    return arrays["test"][:5]


def test_a_session_in_float64_is_told_so(run):
  jax.config.update("jax_enable_x64", True)
  try:
    with pytest.raises(ValueError, match="switch jax_enable_x64 off"):
      latentjax.load(run[0])
  finally:
    jax.config.update("jax_enable_x64", False)


def test_two_files_are_enough(run, images, tmp_path, monkeypatch):
  """config.json and model.npz in another folder, and no data anywhere."""
  for name in ("config.json", "model.npz"):
    shutil.copy(run[0] / name, tmp_path / name)
  monkeypatch.setenv("LATENTJAX_CACHE_DIR", str(tmp_path / "none"))
  model = latentjax.load(tmp_path)
  assert model.image_shape == (28, 28, 1)
  assert model.latent_dims == LATENT_DIMS[run[1]]
  latents = model.encode(images)
  assert [group.shape for group in latents] == [(5, size) for size in model.latent_dims]
  reconstructions = model.reconstruct(images)
  np.testing.assert_array_equal(reconstructions, model.decode(latents))
  assert reconstructions.shape == (5, 28, 28, 1)
  assert ((reconstructions > 0) & (reconstructions < 1)).all()
  np.testing.assert_array_equal(model.sample(4, seed=1), model.sample(4, seed=1))
  assert np.abs(model.sample(4, seed=1) - model.sample(4, seed=2)).max() > 0


def test_numbers_are_those_of_the_run(run, tiny_cache):
  """The mean ELBO over the test split is that of results.json, but for the noise."""
  workdir, _ = run
  results = json.loads((workdir / "results.json").read_text())
  from latentjax.data import dataset

  test = dataset.load_dataset("tiny", "dynamic").test
  model = latentjax.load(workdir)
  elbos = np.stack([model.elbo(test, seed=seed) for seed in range(20)])
  error = elbos.mean(1).std(ddof=1)
  assert abs(elbos.mean() - results["test"]["elbo"]) < 5 * error + 1e-3
  log_likelihoods = np.stack([model.log_likelihood(test, num_samples=50, seed=seed) for seed in range(20)])
  noise = np.sqrt((elbos.var(0, ddof=1) + log_likelihoods.var(0, ddof=1)) / 20)  # of the difference of both means
  assert (log_likelihoods.mean(0) > elbos.mean(0) - 5 * noise - 1e-3).all()  # Jensen, for every image


def test_a_log_likelihood_is_of_as_many_samples_as_asked_for(run, images):
  model = latentjax.load(run[0])
  key = jax.random.fold_in(jax.random.fold_in(jax.random.key(7), 0), 0)  # of the first chunk of the first batch
  trained = model._trained
  weights = trained.inference.log_weights(trained.variables, images, jax.random.split(key, 3))
  expected = np.logaddexp.reduce(np.asarray(weights, np.float64), axis=0) - np.log(3)
  np.testing.assert_allclose(model.log_likelihood(images, num_samples=3, seed=7), expected, rtol=1e-6)


def test_every_shape_and_type_of_images_is_the_same_image(run, images):
  model = latentjax.load(run[0])
  expected = model.encode(images)[0]
  for same in (images[..., 0], images / 255, (images / 255).astype(np.float32)):
    np.testing.assert_allclose(model.encode(same)[0], expected, atol=1e-5)
  np.testing.assert_allclose(model.encode(images[0, :, :, 0])[0], expected[:1], atol=1e-5)


def test_the_home_of_nobody_is_one_line():
  with pytest.raises(ValueError, match="begins with ~ and the name of nobody here"):
    latentjax.load("~nobody-of-that-name/run")


@pytest.mark.parametrize(
  ("change", "error", "words"),
  [
    (lambda x: x[:, :20], ValueError, r"\[B, H, W, C\] with H, W, C = 28, 28, 1, not \(5, 20, 28, 1\)"),
    (lambda x: x[:0], ValueError, r"images must be at least one, not \(0, 28, 28, 1\)"),
    (lambda x: x.astype(int), TypeError, "uint8 from 0 to 255 or floats from 0 to 1, not int64"),
    (lambda x: x.astype(float), ValueError, r"must lie in \[0, 1\]; these lie in \[0, 2"),
    (lambda x: x * np.nan, ValueError, r"must lie in \[0, 1\]"),
    (lambda x: x.astype(str), TypeError, "uint8"),
    (lambda x: "digit.png", TypeError, "uint8 from 0 to 255 or floats from 0 to 1, not <U9"),
    (lambda x: [x[0, :20], x[1]], ValueError, "images must be one array: these have different shapes"),
    (lambda x: x // 128, ValueError, "from 0 to 1: give them as bool or as floats"),
  ],
)
def test_images_that_do_not_fit_are_named(run, images, change, error, words):
  with pytest.raises(error, match=words):
    latentjax.load(run[0]).encode(change(images))


def test_latents_of_many_images_are_decoded_in_batches(run, images, monkeypatch):
  model = latentjax.load(run[0])
  latents = model.encode(images)
  whole = model.decode(latents)
  monkeypatch.setattr(api, "BATCH_SIZE", 2)
  monkeypatch.setattr(evaluation, "batches", Mock(side_effect=evaluation.batches))
  np.testing.assert_allclose(model.decode(latents), whole, atol=1e-5)
  assert {call.args[1] for call in evaluation.batches.call_args_list} == {2}


def test_latents_that_do_not_fit_are_named(run, images):
  model = latentjax.load(run[0])
  latents = model.encode(images)
  for wrong in (np.zeros((1, 2)), None, "abc", [["a"]]):
    with pytest.raises(TypeError, match="a sequence of arrays"):
      model.decode(wrong)
  for wrong in ([], latents[:-1], [*latents, latents[0]], [group[:, :1] for group in latents]):
    with pytest.raises(ValueError, match="one for each group, as encode returns them: Z is "):
      model.decode(wrong)
  with pytest.raises(ValueError, match="at least one image"):
    model.decode([group[:0] for group in latents])
  with pytest.raises(ValueError, match="latents must be finite"):
    model.decode([group * np.nan for group in latents])
  with pytest.raises(ValueError, match="num_samples must be at least 1"):
    model.sample(0)
  with pytest.raises(TypeError, match="seed must be a whole number"):
    model.sample(1, seed=0.5)


def test_drawings_are_of_draw_alone(run, images):
  workdir, name = run
  model = latentjax.load(workdir)
  if name != "draw":
    with pytest.raises(TypeError, match="needs a DRAW"):
      model.draw(images)
    return
  drawing = model.draw(images)
  assert drawing.canvases.shape == (3, 5, 28, 28, 1)
  assert drawing.read.center_x.shape == drawing.write.variance.shape == (3, 5)
  dream = model.dream(2)
  assert dream.canvases.shape == (3, 2, 28, 28, 1)
  assert dream.read is None


def test_seeds_are_chosen_by_index(tiny_cache, images, tmp_path):
  train.run(config_of("vae", **{"train.num_seeds": 2}), tmp_path / "two")
  first, second = (latentjax.load(tmp_path / "two", seed_index=index).encode(images)[0] for index in (0, 1))
  assert np.abs(first - second).max() > 0.01
  with pytest.raises(ValueError, match="2 seeds"):
    latentjax.load(tmp_path / "two", seed_index=2)
  for wrong in (True, 1.0, "a", None):
    with pytest.raises(TypeError, match="seed_index must be a whole number"):
      latentjax.load(tmp_path / "two", seed_index=wrong)


def test_no_model_is_one_clear_error(tmp_path):
  with pytest.raises(ValueError, match="is no run: give its workdir"):
    latentjax.load(tmp_path)
  with pytest.raises(TypeError, match="a workdir is a path, not None"):
    latentjax.load(None)


def test_a_run_without_model_npz_says_what_writes_it(run, tmp_path):
  shutil.copy(run[0] / "config.json", tmp_path)
  with pytest.raises(ValueError, match=r"No trained model in .* --mode=train writes one after its first epoch"):
    latentjax.load(tmp_path)


def test_loading_changes_nothing_global_and_needs_neither_data_nor_checkpoint_libraries(run):
  program = (
    "import signal, sys\n"
    "import latentjax\n"
    "assert 'jax' not in sys.modules\n"
    "import jax, matplotlib\n"
    "before = matplotlib.get_backend(), dict(jax.config.values), signal.getsignal(signal.SIGINT)\n"
    f"latentjax.load({str(run[0])!r}).sample(2)\n"
    "assert (matplotlib.get_backend(), dict(jax.config.values), signal.getsignal(signal.SIGINT)) == before\n"
    "loaded = {name.split('.')[0] for name in sys.modules}\n"
    "print(sorted(loaded & {'orbax', 'tensorflow', 'tensorflow_datasets', 'mlxtend', 'tensorboardX'}))\n"
  )
  done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr
  assert done.stdout.strip() == "[]"
