"""Files of `latentjax encode`, for a run's dataset and for the user's own files, against direct calls of the model."""

import dataclasses
import importlib
import json
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from latentjax import models
from latentjax.cli import encode
from latentjax.data import cache, dataset
from latentjax.inference import trained_model
from latentjax.inference.trained_model import load_seed
from latentjax.runtime.errors import UsageError
from latentjax.training.results import measure_seed
from latentjax.workdir import records, weights
from latentjax.workdir.protocol import protocol_of

COUNTS = {"train": 48, "validation": 20, "test": 20}


@pytest.fixture(scope="module")
def labelled(tiny_cache):
  """`halves`: noise in the upper or the lower half of the image, which is what its labels say."""
  generator, splits = np.random.default_rng(0), {"label_names": np.array(["upper", "lower"])}
  for split, count in COUNTS.items():
    labels = generator.integers(0, 2, count)
    images = np.zeros((count, 2, 14, 28, 1), np.uint8)
    images[np.arange(count), labels] = generator.integers(100, 256, (count, 14, 28, 1))
    splits |= {split: images.reshape(count, 28, 28, 1), f"{split}_labels": labels}
  cache.write_cache("halves", splits)
  return splits


@pytest.fixture(scope="module")
def run(labelled, tmp_path_factory):
  """(config, workdir) of a Ladder VAE of two layers with its first weights; tests that write there copy it."""
  config = importlib.import_module("configs.ladder_vae").get_config()
  config.model.update({"hidden_dims": (16, 6), "latent_dims": (8, 2)})
  config.update_from_flattened_dict({"data.name": "halves", "eval.nll_samples": 3, "eval.batch_size": 16})
  workdir = tmp_path_factory.mktemp("encode")
  model = models.create_model(config.model, (28, 28, 1))
  init_key, sample_key = jax.random.split(jax.random.key(0))
  variables = jax.jit(model.init)(init_key, np.zeros((1, 28, 28, 1), np.float32), sample_key)
  weights.write_weights(workdir / "model.safetensors", (28, 28, 1), config.seed, 0, variables)
  records.write_config(
    workdir, config, (28, 28, 1), {"dataset_sha256": dataset.load_dataset(**config.data.to_dict()).sha256}
  )
  return config, workdir


@pytest.fixture(scope="module", autouse=True)
def compiled_once(run):
  """All runs here are of one model, and share what is compiled: that is most of their time."""
  opened = load_seed(*run)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(trained_model, "load_seed", lambda config, workdir: dataclasses.replace(opened, config=config))
    yield


@pytest.fixture
def copy(run, tmp_path):
  return run[0].copy_and_resolve_references(), shutil.copytree(run[1], tmp_path / "run")


def encoded(images):
  model = trained_model.load_seed(None, None)
  return [np.asarray(group) for group in model.inference.encode(model.variables, images)]


def read(folder):
  with np.load(folder / "latents.npz", allow_pickle=False) as arrays:
    return dict(arrays), json.loads((folder / "encode.json").read_text())


def test_every_split_of_the_data_set(copy, labelled, capsys):
  config, workdir = copy
  config.encode.nll_samples = 3
  encode.run(config, None, workdir)
  arrays, told = read(workdir)
  data = dataset.load_dataset("halves", "dynamic")
  results = measure_seed(load_seed(config, workdir), data, protocol_of(config).metric_names)
  for split, images in data.eval_splits().items():
    for number, group in enumerate(encoded(images), start=1):
      np.testing.assert_allclose(arrays[f"{split}_latents_{number}"], group, atol=1e-5)
    np.testing.assert_array_equal(arrays[f"{split}_labels"], labelled[f"{split}_labels"])
    assert arrays[f"{split}_elbo"].shape == (COUNTS[split],)
    assert told["splits"][split]["elbo"] == pytest.approx(results[split]["elbo"])
  assert told["splits"]["test"]["log_likelihood"] == pytest.approx(-results["test"]["nll"])
  assert arrays["test_log_likelihood"].mean() == pytest.approx(-results["test"]["nll"])
  assert arrays["label_names"].tolist() == ["upper", "lower"]
  assert told["linear_probe"]["accuracy"] > 0.8  # which half is noise can be read off the latents
  assert f"{told['linear_probe']['accuracy']:.2%} test accuracy" in capsys.readouterr().out
  assert not (workdir / "encoded").exists()


def test_a_persons_files_lie_beside_the_run(copy, labelled, tmp_path, capsys):
  config, workdir = copy
  before = {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}
  for index, image in enumerate(labelled["test"][:3, ..., 0]):
    path = tmp_path / "mine" / ("b" if index else "a") / f"{index}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).convert("RGB" if index == 1 else "L").save(path)  # gray all the same
  encode.run(config, str(tmp_path / "mine"), workdir)
  encode.run(config, str(tmp_path / "mine" / "a" / "0.png"), workdir)
  np.savez(tmp_path / "mine.npz", images=labelled["test"][:3, ..., 0], images_labels=[7, 8, 9])
  encode.run(config, str(tmp_path / "mine.npz"), workdir)
  assert {path: path.read_bytes() for path in before} == before

  (folder, _), (single, _), (own, told) = (read(workdir / "encoded" / name) for name in ("mine", "0.png", "mine.npz"))
  assert folder["images_files"].tolist() == ["a/0.png", "b/1.png", "b/2.png"]
  assert folder["label_names"][folder["images_labels"]].tolist() == ["a", "b", "b"]
  assert single["images_files"].tolist() == ["0.png"]
  assert own["images_labels"].tolist() == [7, 8, 9]
  binary = dataset.fixed_binarization(labelled["test"][:3], "images")
  for number, group in enumerate(encoded(binary), start=1):
    for arrays, count in ((folder, 3), (single, 1), (own, 3)):
      np.testing.assert_allclose(arrays[f"images_latents_{number}"], group[:count], atol=1e-5)
  assert told["data"] == str(tmp_path / "mine.npz")
  with Image.open(workdir / "encoded" / "mine" / "reconstructions.png") as picture:
    assert np.asarray(picture).std() > 0
  assert "linear probe" not in capsys.readouterr().out
  (tmp_path / "other").mkdir()
  with pytest.raises(UsageError, match=r"0.png has the latents of .*mine/a/0.png. Move it, or rename .*other/0.png"):
    encode.run(config, str((tmp_path / "mine/a/0.png").rename(tmp_path / "other/0.png")), workdir)


@pytest.mark.parametrize(
  ("size", "colour", "words"),
  [
    ((30, 20), "L", r"20 x 30 pixels, gray, and the model expects 28 x 28 pixels, gray. --config.data.image_size=28 "),
    ((28, 28), "RGB", r"28 x 28 pixels, colored, and the model expects .* gray. Save them as such"),
    (
      (30, 20),
      "RGB",
      r"colored, .* gray. Save them as gray images; --config.data.image_size=28 crops and resizes",
    ),
  ],
)
def test_images_that_do_not_fit_are_one_line(run, tmp_path, size, colour, words):
  Image.new(colour, size, "red").save(tmp_path / "one.png")
  with pytest.raises(UsageError, match=words):
    encode.run(run[0], str(tmp_path / "one.png"), run[1])
  assert not (run[1] / "encoded").exists()


def test_photographs_are_cropped_and_resized_where_that_is_asked_for(copy, tmp_path):
  config, workdir = copy
  Image.new("L", (90, 40), 255).save(tmp_path / "one.png")
  config.data.image_size = 28
  encode.run(config, str(tmp_path / "one.png"), workdir)
  white = encoded(np.full((1, 28, 28, 1), 255, np.uint8))
  np.testing.assert_allclose(read(workdir / "encoded" / "one.png")[0]["images_latents_1"], white[0], atol=1e-5)


@pytest.mark.parametrize(
  ("name", "words"),
  [
    ("nothing", "there is no such folder"),
    ("empty", "there are no images in"),
    ("array.npy", "is an .npy. Write an .npz"),
  ],
)
def test_no_images_are_one_line(run, tmp_path, name, words):
  (tmp_path / "empty").mkdir()
  np.save(tmp_path / "array.npy", np.zeros((3, 28, 28), np.uint8))
  with pytest.raises(UsageError, match=rf"--images=.*{name}:? {words}"):
    encode.run(run[0], str(tmp_path / name), run[1])


def test_without_labels_there_is_no_probe(copy, labelled, tmp_path, monkeypatch, capsys):
  monkeypatch.setenv("LATENTJAX_CACHE_DIR", str(tmp_path))
  cache.write_cache("halves", {split: labelled[split] for split in COUNTS})
  encode.run(*copy[:1], None, copy[1])
  arrays, told = read(copy[1])
  assert told["linear_probe"] is None
  assert not any("label" in name for name in arrays)
  assert "no linear probe of halves: there are no labels" in capsys.readouterr().out
