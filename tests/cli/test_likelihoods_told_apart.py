"""Metrics of pixels with 256 values and their names, from training to the comparison."""

import json
import math
import re

import numpy as np
import pytest
import tiny

import latentjax
from latentjax.cli import compare, evaluate, explore, sweep, train
from latentjax.workdir import plots

SHAPE = (6, 5, 3)


def config_of(likelihood: str, data):
  changes = {"data.name": str(data), "data.binarization": "none", "model.likelihood": likelihood}
  return tiny.create_config("vae", {**changes, "train.epochs": 2, "eval.nll_samples": 20, "sample.num_images": 4})


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
  """48 / 20 / 20 images whose channels have levels of their own."""
  path, generator = tmp_path_factory.mktemp("data") / "colours.npz", np.random.default_rng(0)
  sizes = {"train": 48, "validation": 20, "test": 20}
  levels = np.array([40, 120, 200])
  np.savez(path, **{k: generator.normal(levels, 5, (size, *SHAPE)).astype(np.uint8) for k, size in sizes.items()})
  return path


@pytest.fixture(scope="module")
def trained(colours, tmp_path_factory):
  workdir = tmp_path_factory.mktemp("levels") / "run"
  train.run(config_of("discretized_logistic", colours), workdir)
  return workdir


def in_bits(nats: float) -> float:
  return nats / (math.prod(SHAPE) * math.log(2))


def test_bits_per_dim_stand_beside_nats(trained):
  results = json.loads((trained / "results.json").read_text())
  assert results["likelihood"] == "discretized logistic"
  for split in ("train", "validation", "test"):
    assert results[split]["bits_per_dim"] == pytest.approx(in_bits(-results[split]["elbo"]))
  assert results["test"]["nll_bits_per_dim"] == pytest.approx(in_bits(results["test"]["nll"]))
  for line in map(json.loads, (trained / "metrics.jsonl").read_text().splitlines()):
    for split in ("train", "validation"):
      assert line[split]["bits_per_dim"] == pytest.approx(in_bits(-line[split]["elbo"]))


def test_loaded_it_gives_the_same_numbers_and_pictures_in_0_to_1(trained, colours):
  model, results = latentjax.load(trained), json.loads((trained / "results.json").read_text())
  with np.load(colours) as arrays:
    test = arrays["test"]
  assert model.log_likelihood(test, num_samples=20).mean() == pytest.approx(-results["test"]["nll"], rel=0.01)
  assert model.elbo(test).mean() == pytest.approx(results["test"]["elbo"], rel=0.01)
  for pixels in (model.sample(3), model.reconstruct(test[:3])):
    assert pixels.shape == (3, *SHAPE)
    assert pixels.min() >= 0
    assert pixels.max() <= 1
    np.testing.assert_allclose(pixels.mean((0, 1, 2)), np.array([40, 120, 200]) / 255, atol=0.1)


def test_cross_entropies_have_their_own_names_and_tables(colours, tmp_path, monkeypatch, capsys):
  """In the output, the plots and the comparison."""
  panels = []
  monkeypatch.setattr(plots, "_plot_run", lambda axes, *_: panels.append(axes[0]))
  kinds = {"grey": "bernoulli", "levels": "discretized_logistic"}
  outputs = {}
  for kind, likelihood in kinds.items():
    train.run(config_of(likelihood, colours), tmp_path / kind)
    evaluate.run(config_of(likelihood, colours), tmp_path / kind)
    explore.run(config_of(likelihood, colours), tmp_path / kind)
    assert "images only" not in (tmp_path / kind / "explore.html").read_text(encoding="utf-8")
    outputs[kind] = capsys.readouterr().out
  assert not re.search(r"ELBO|NLL|reconstruction\b|bits", outputs["grey"].replace("model.likelihood", ""))
  for name in ("CE bound", "cross-entropy", "marginal CE", "marginal CE by K"):
    assert name in outputs["grey"]
    assert name not in outputs["levels"]
  for name in ("ELBO", "NLL by K", "bits/dim"):
    assert name in outputs["levels"]
  assert [axis.get_ylabel().split(",")[0] for axis in panels[::3]] == ["CE bound", "ELBO"]  # of loss.png
  pages = [(tmp_path / kind / "explore.html").read_text(encoding="utf-8") for kind in kinds]
  assert [[f"test {name}" in page for name in ("CE bound", "marginal CE", "ELBO", "NLL")] for page in pages] == [
    [True, True, False, False],
    [False, False, True, True],
  ]
  assert json.loads((tmp_path / "grey" / "results.json").read_text())["likelihood"] == "cross-entropy"

  panels.clear()
  compare.run([str(tmp_path / kind) for kind in kinds], tmp_path / "both")
  assert {axis.get_ylabel().split(",")[0] for axis in panels} == {
    *("CE bound", "cross-entropy", "KL", "ELBO", "reconstruction")
  }
  markdown = (tmp_path / "both" / "comparison.md").read_text()
  grey, levels = re.split(r"^## ", markdown, flags=re.MULTILINE)[1:]
  assert not re.search("ELBO|NLL|reconstruction", grey)
  assert "| test marginal CE (K) |" in grey
  assert "| test NLL (K) | test bits/dim |" in levels
  bits = json.loads((tmp_path / "levels" / "results.json").read_text())["test"]
  assert f"| {bits['bits_per_dim']:.3f} / {bits['nll_bits_per_dim']:.3f} |" in levels
  page = (tmp_path / "both" / "report.html").read_text()
  for name in ("Test marginal CE by K", "Test NLL by K", "test bits/dim</th>", "not log-likelihoods"):
    assert name in page
  tables = json.loads((tmp_path / "both" / "comparison.json").read_text())["tables"]
  assert [table["likelihood"] for table in tables] == ["cross-entropy", "discretized logistic"]

  compare.run([str(tmp_path / "grey")], tmp_path / "one")
  assert not re.search(r"\b(ELBO|NLL)", (tmp_path / "one" / "report.html").read_text())


def test_a_sweep_has_a_table_per_likelihood(colours, tmp_path, monkeypatch, capsys):
  bound = {"elbo": -100.0, "kl": 1.0, "reconstruction": 99.0}
  results = {"epoch": 1, "train_minutes": 1.0, "validation": bound, "test": bound | {"nll": 90.0}}
  monkeypatch.setattr(sweep, "run_one", lambda config, workdir: results)
  overrides = [{"model.likelihood": name} for name in ("bernoulli", "discretized_logistic")]
  sweep.run(config_of("bernoulli", colours), overrides, tmp_path)
  output = capsys.readouterr().out
  assert output.count("validation CE bound") == output.count("validation ELBO") == 1
  assert output.index("CE bound") < output.index("discretized logistic") < output.index("validation ELBO")
