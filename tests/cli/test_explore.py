"""`latentjax explore`: the page of a workdir, with and without its data."""

import importlib
import json
import re
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from latentjax import models
from latentjax.cli import explore
from latentjax.data import dataset
from latentjax.runtime.errors import RunError, UsageError
from latentjax.workdir import records, weights
from latentjax.workdir.run import Run

SHAPE = (28, 28, 1)


def make_run(workdir, name: str = "vae", sha256: str = "", **changes):
  """A workdir with weights nobody trained."""
  config = importlib.import_module(f"configs.{name}").get_config()
  config.update_from_flattened_dict({"data.name": "tiny", **changes})
  seeds = range(config.train.num_seeds)
  model = models.create_model(config.model, SHAPE)
  variables = jax.jit(model.init)(jax.random.key(0), np.zeros((1, *SHAPE), np.float32), jax.random.key(1))
  workdir.mkdir()
  records.write_config(workdir, config, SHAPE, {"dataset_sha256": sha256})
  for index, seed in enumerate(seeds):
    weights.write_weights(workdir / weights.weights_name(len(seeds), index), SHAPE, seed, 3, variables)
  return config, model, variables


def payload(workdir) -> dict:
  return json.loads(re.search(r'id="payload">([^<]*)<', (workdir / "explore.html").read_text())[1])


TINY = {"model.hidden_dims": (6,), "model.latent_dim": 3}


def test_a_page_with_test_images_has_their_latents_and_the_kl_of_every_latent(tmp_path, tiny_cache, capsys):
  data = dataset.load_dataset("tiny", "dynamic")
  config, model, variables = make_run(tmp_path / "run", sha256=data.sha256, **TINY)
  explore.run(config, tmp_path / "run")
  assert "for any browser" in capsys.readouterr().out
  page = payload(tmp_path / "run")
  assert page["arrays"]["test/images"]["shape"] == [10, *SHAPE]
  assert page["arrays"]["test/latents/0"]["shape"] == [10, 3]
  assert page["config"]["hidden_dims"] == [6]
  images = data.test / np.float32(255)
  terms = model.apply(variables, images, jax.random.key(2))
  np.testing.assert_allclose(sum(page["kl"][0]), terms.kl.mean(), rtol=1e-3)
  assert not list((tmp_path / "run").glob("*.tmp"))


def test_a_quick_look_is_called_one(tmp_path):
  workdir = tmp_path / "run"
  make_run(workdir, **TINY)
  test = {"elbo": -3.0, "kl": 1.0, "reconstruction": 2.0, "nll": 2.5, "nll_samples": 2, "num_examples": 4}
  bounds = dict.fromkeys(("train", "validation", "test"), test)
  records.write_results(workdir, {**bounds, "parameters": 1, "step": 7, "epochs_trained": None})
  trained = SimpleNamespace(config=records.read_config(workdir), variables={"params": {}}, step=7)
  for count, few in ((20, " (of 4 images only)"), (4, "")):
    words = explore.run_facts(Run.open(workdir), trained, np.zeros((count, *SHAPE)))
    assert words[2:] == [f"test ELBO -3.00 nats{few}", f"test NLL 2.50 nats (K = 2){few}"]
  records.write_results(workdir, {**bounds, "test": test | {"elbo": float("nan"), "nll": float("nan")}, "step": 7})
  assert len(explore.run_facts(Run.open(workdir), trained, None)) == 2


def test_a_kl_that_is_not_finite_is_left_out(tmp_path, tiny_cache, monkeypatch, capsys):
  data = dataset.load_dataset("tiny", "dynamic")
  config, *_ = make_run(tmp_path / "run", sha256=data.sha256, **TINY)
  monkeypatch.setattr(explore.evaluation, "kl_per_latent", lambda *args: [np.array([1.0, np.nan, 2.0])])
  explore.run(config, tmp_path / "run")
  assert "The KL of some latents is NaN or infinite" in capsys.readouterr().out
  assert payload(tmp_path / "run")["kl"] is None


def test_a_page_without_data_says_so_and_has_the_model(tmp_path, tiny_cache, capsys):
  config, *_ = make_run(tmp_path / "run", **TINY, **{"data.name": str(tmp_path / "gone")})
  explore.run(config, tmp_path / "run")
  assert "Images that need them are left out" in " ".join(capsys.readouterr().out.split())
  page = payload(tmp_path / "run")
  assert page["kl"] is None
  assert not any(name.startswith("test/") for name in page["arrays"])


def test_the_page_says_which_of_several_seeds_it_has(tmp_path, tiny_cache):
  config, *_ = make_run(tmp_path / "run", **TINY, **{"train.num_seeds": 2, "seed": 5})
  explore.run(config, tmp_path / "run")
  assert "seed 5, the first of 2" in (tmp_path / "run" / "explore.html").read_text()


def test_what_cannot_be_shown_is_refused_before_anything_is_read(tmp_path, tiny_cache):
  config, *_ = make_run(tmp_path / "run", **TINY)
  other = config.copy_and_resolve_references()
  other.model.latent_dim = 4
  with pytest.raises(UsageError, match="holds a different experiment"):
    explore.run(other, tmp_path / "run")
  (tmp_path / "run" / "model.safetensors").unlink()
  with pytest.raises(UsageError, match=r"No trained model in .* Run `latentjax train`"):
    explore.run(config, tmp_path / "run")
  config, _, variables = make_run(tmp_path / "huge", **TINY)
  variables["params"]["pixels"]["bias"] += 1e6
  weights.write_weights(tmp_path / "huge" / "model.safetensors", SHAPE, 0, 3, variables)
  with pytest.raises(RunError, match="pixels/bias has values beyond half precision"):
    explore.run(config, tmp_path / "huge")
  assert not (tmp_path / "huge" / "explore.html").exists()
