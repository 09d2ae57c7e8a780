"""`latentjax.load` and the public methods of a trained model, without its data."""

import json
import pickle
import shutil
import subprocess
import sys
from unittest.mock import Mock

import jax
import numpy as np
import pytest
import tiny

import latentjax
from latentjax.cli import train
from latentjax.inference import evaluation, trained_model

LATENT_DIMS = {"conv_ladder": (4, 2), "draw": (2, 2, 2), "ladder_vae": (3, 2), "vae": (2,)}


@pytest.fixture(scope="module", params=tiny.MODELS)
def run(request, trained_run):
  """(workdir, model's name) of a run that was trained and evaluated."""
  return trained_run(request.param), request.param


@pytest.fixture(scope="module")
def images(tiny_cache):
  with np.load(tiny_cache / "tiny.npz") as arrays:
    return arrays["test"][:5]


def test_the_callers_settings_of_jax_change_nothing(trained_run, images):
  def numbers():
    model = latentjax.load(trained_run("vae"))
    return model.encode(images)[0], model.sample(2, seed=1), model.elbo(images), model.log_likelihood(images, 3)

  settings = {  # with the value that they have otherwise
    "jax_threefry_partitionable": (False, True),
    "jax_default_prng_impl": ("rbg", "threefry2x32"),
    "jax_random_seed_offset": (3, 0),
    "jax_enable_x64": (True, False),
    "jax_numpy_dtype_promotion": ("strict", "standard"),
    "jax_transfer_guard": ("disallow", "allow"),
    "jax_disable_jit": (True, False),
  }
  expected = numbers()
  try:
    for name, (value, _) in settings.items():
      jax.config.update(name, value)
    found = numbers()
  finally:
    for name, (_, usual) in settings.items():
      jax.config.update(name, usual)
  for one, other in zip(found, expected, strict=True):
    assert one.dtype == other.dtype
    np.testing.assert_array_equal(one, other)


def test_two_files_are_enough(run, images, tmp_path, monkeypatch):
  """config.json and model.safetensors in another folder, and no data anywhere."""
  for name in ("config.json", "model.safetensors"):
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


def test_elbo_matches_results(run, tiny_cache):
  """The mean ELBO over the test split is that of results.json, up to sampling noise."""
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


def test_log_likelihood_uses_num_samples(run, images):
  model = latentjax.load(run[0])
  key = jax.random.fold_in(jax.random.fold_in(jax.random.key(7), 0), 0)  # of the first chunk of the first batch
  weights = model.inference.log_weights(model.variables, images, key, 3)[:3]
  expected = np.logaddexp.reduce(np.asarray(weights, np.float64), axis=0) - np.log(3)
  np.testing.assert_allclose(model.log_likelihood(images, num_samples=3, seed=7), expected, rtol=1e-6)


def test_images_of_any_accepted_shape_and_dtype_are_encoded_alike(run, images):
  model = latentjax.load(run[0])
  expected = model.encode(images)[0]
  for same in (images[..., 0], images / 255, (images / 255).astype(np.float32), images / 255 * 1.0000001):
    np.testing.assert_allclose(model.encode(same)[0], expected, atol=1e-5)
  np.testing.assert_allclose(model.encode(images[0, :, :, 0])[0], expected[:1], atol=1e-5)


def test_a_pickled_model_is_the_same(run, images):
  model = latentjax.load(run[0])
  again = pickle.loads(pickle.dumps(model))
  assert (again.step, again.config) == (model.step, model.config)
  np.testing.assert_array_equal(again.encode(images)[0], model.encode(images)[0])
  np.testing.assert_array_equal(again.sample(2, seed=1), model.sample(2, seed=1))


def test_unknown_home_directory_is_refused():
  with pytest.raises(ValueError, match="no such user"):
    latentjax.load("~nobody-of-that-name/run")


@pytest.mark.parametrize(
  ("change", "error", "message"),
  [
    (lambda x: x[:, :20], ValueError, r"shape \(5, 20, 28, 1\)\. Pass .*\[B, H, W, C\] with H, W, C = 28, 28, 1"),
    (lambda x: x[:0], ValueError, r"shape \(0, 28, 28, 1\)\. Pass at least one"),
    (lambda x: x.astype(int), TypeError, "dtype int64. Pass uint8 from 0 to 255 or floats from 0 to 1"),
    (lambda x: x.astype(float), ValueError, r"values in \[0, 2\d+\]\. Scale them to \[0, 1\]"),
    (lambda x: x / 255 + 2e-6, ValueError, r"values in \[2e-06, 1\.000002\]\. Scale them to \[0, 1\]"),
    (lambda x: x * np.nan, ValueError, r"images have NaN"),
    (lambda x: x.astype(str), TypeError, "uint8"),
    (lambda x: "digit.png", TypeError, "dtype <U9. Pass uint8 from 0 to 255 or floats from 0 to 1"),
    (lambda x: [x[0, :20], x[1]], ValueError, "images have different shapes. Pass one array"),
    (lambda x: x // 128, ValueError, "values 0 and 1 only. Pass bool or float"),
  ],
)
def test_wrong_images_are_refused(run, images, change, error, message):
  with pytest.raises(error, match=message):
    latentjax.load(run[0]).encode(change(images))


def test_latents_of_many_images_are_decoded_in_batches(run, images, monkeypatch):
  model = latentjax.load(run[0])
  latents = model.encode(images)
  whole = model.decode(latents)
  monkeypatch.setattr(trained_model, "BATCH_SIZE", 2)
  monkeypatch.setattr(evaluation, "batches", Mock(side_effect=evaluation.batches))
  np.testing.assert_allclose(model.decode(latents), whole, atol=1e-5)
  assert {call.args[1] for call in evaluation.batches.call_args_list} == {2}


def test_wrong_latents_are_refused(run, images):
  model = latentjax.load(run[0])
  latents = model.encode(images)
  for wrong in (None, "abc", [["a"]]):
    with pytest.raises(TypeError, match="a sequence of arrays"):
      model.decode(wrong)
  for wrong in (np.zeros((1, 2)), [], [1.0], latents[:-1], [*latents, latents[0]], [group[:, :1] for group in latents]):
    with pytest.raises(ValueError, match="one per group, as returned by encode, with Z = "):
      model.decode(wrong)
  with pytest.raises(ValueError, match="at least one image"):
    model.decode([group[:0] for group in latents])
  with pytest.raises(ValueError, match="latents must be finite"):
    model.decode([group * np.nan for group in latents])
  with pytest.raises(ValueError, match=r"num_samples must be from 1 to .*, not 0"):
    model.sample(0)
  with pytest.raises(TypeError, match="seed must be an integer"):
    model.sample(1, seed=0.5)


def test_drawings_require_draw(run, images):
  workdir, name = run
  model = latentjax.load(workdir)
  if name != "draw":
    with pytest.raises(TypeError, match="need a DRAW model"):
      model.draw(images)
    return
  drawing = model.draw(images)
  assert drawing.canvases.shape == (3, 5, 28, 28, 1)
  assert drawing.read.center_x.shape == drawing.write.variance.shape == (3, 5)
  dream = model.dream(2)
  assert dream.canvases.shape == (3, 2, 28, 28, 1)
  assert dream.read is None


def test_seeds_are_chosen_by_index(tiny_cache, images, tmp_path):
  train.run(tiny.create_config("vae", {"train.epochs": 1, "train.num_seeds": 2}), tmp_path / "two")
  first, second = (latentjax.load(tmp_path / "two", seed_index=index).encode(images)[0] for index in (0, 1))
  assert np.abs(first - second).max() > 0.01
  with pytest.raises(ValueError, match="seed_index must be from 0 to 1, not 2"):
    latentjax.load(tmp_path / "two", seed_index=2)
  for wrong in (True, 1.0, "a", None):
    with pytest.raises(TypeError, match="seed_index must be an integer"):
      latentjax.load(tmp_path / "two", seed_index=wrong)


def test_missing_runs_are_refused(tmp_path):
  with pytest.raises(ValueError, match=r"No run in .* \(config\.json is missing\)"):
    latentjax.load(tmp_path)
  with pytest.raises(TypeError, match="workdir must be a path, not None"):
    latentjax.load(None)


def test_runs_without_weights_are_refused(run, tmp_path):
  shutil.copy(run[0] / "config.json", tmp_path)
  with pytest.raises(ValueError, match=r"No trained model in .*model\.safetensors is missing.*Run `latentjax train`"):
    latentjax.load(tmp_path)


def test_loading_changes_nothing_global_and_needs_neither_data_nor_checkpoint_libraries(trained_run):
  workdirs = [str(trained_run(model)) for model in tiny.MODELS]
  program = (
    "import signal, sys\n"
    "import latentjax\n"
    "assert 'jax' not in sys.modules\n"
    "import jax, matplotlib\n"
    "before = matplotlib.get_backend(), dict(jax.config.values), signal.getsignal(signal.SIGINT)\n"
    f"for workdir in {workdirs}:\n"
    "  latentjax.load(workdir).sample(2)\n"
    "assert (matplotlib.get_backend(), dict(jax.config.values), signal.getsignal(signal.SIGINT)) == before\n"
    "loaded = {name.split('.')[0] for name in sys.modules}\n"
    "print(sorted(loaded & {'orbax', 'tensorflow', 'tensorflow_datasets', 'mlxtend', 'tensorboardX'}))\n"
  )
  done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr
  assert done.stdout.strip() == "[]"
