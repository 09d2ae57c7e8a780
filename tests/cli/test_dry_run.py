"""Cost of a training, printed before it starts; a training that cannot run writes nothing."""

import importlib
import re

import pytest

from latentjax.cli import main, train
from latentjax.runtime import cost
from latentjax.runtime.errors import RunError, UsageError
from latentjax.workdir import records

CHANGES = {
  "data.name": "tiny",
  "model.hidden_dims": "(256,)",
  "model.latent_dim": 2,
  "train.batch_size": 16,
  "train.epochs": 5,
}


@pytest.fixture
def config():
  config = importlib.import_module("configs.vae").get_config()
  config.update_from_flattened_dict(CHANGES | {"model.hidden_dims": (256,)})
  return config


def test_a_dry_run_says_what_a_step_takes_and_writes_nothing(tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  changes = [f"--config.{key}={value}" for key, value in CHANGES.items()]
  assert main.main(["main.py", "--dry_run", "--config=vae", *changes, "--noconfig.compilation_cache"]) == 0
  said = capsys.readouterr().out
  assert list(tmp_path.iterdir()) == []
  layers = [784 * 256, 256 * 4, 2 * 256, 256 * 784]  # a multiplication and an addition of each weight, forward
  flops = 2 * 16 * (3 * sum(layers) - layers[0])  # and for gradients of weights and inputs; nobody asks for the image's
  parameters = sum(layers) + 256 + 4 + 256 + 784
  assert f"vae, {parameters:,} parameters, on tiny, " in said
  assert "writing nothing" in said
  assert f"a step of 16 images: {flops / 1e9:.2f} GFLOP in matrix products, {flops / 16e6:.2f} MFLOP per image" in said
  assert "5 epochs of 3 steps: 15 steps" in said
  peak, temporary, state = (float(number) for number in re.findall(r"([\d.]+) MiB", said))
  assert state == pytest.approx(4 * 4 * parameters / 2**20, abs=0.06)  # weights, their average, and Adam's two moments
  assert peak >= state
  assert peak >= temporary


def test_only_training_has_a_dry_run(capsys):
  assert main.main(["main.py", "--mode=sample", "--dry_run"]) == 2
  assert capsys.readouterr() == ("", "error: --dry_run is for `latentjax train`. Drop it with `latentjax sample`.\n")


def test_a_dry_run_downloads_nothing(config, monkeypatch):
  monkeypatch.setattr(train.dataset, "is_prepared", lambda name, image_size: False)
  with pytest.raises(RunError, match="tiny is not prepared here, and a dry run downloads nothing"):
    train.dry_run(config, None)


def test_a_step_that_does_not_fit_leaves_no_run(config, tmp_path, monkeypatch):
  """So that the same workdir takes a smaller one."""
  monkeypatch.setattr(cost, "free_bytes", lambda: 1000)
  with pytest.raises(RunError, match=r"needs 0\.0 GiB of memory"):
    train.run(config, tmp_path)
  assert not (tmp_path / "config.json").exists()
  assert "error: A step needs" in (tmp_path / "train.log").read_text()
  records.write_config(tmp_path, config, (28, 28, 1), {"dataset_sha256": ""})
  config.model.latent_dim = 3
  with pytest.raises(UsageError, match=r"model\.latent_dim: 2 -> 3"):
    train.dry_run(config, tmp_path)
