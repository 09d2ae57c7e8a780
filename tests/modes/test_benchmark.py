"""Benchmark mode in every phase; tests/test_main.py runs it as a person does."""

import importlib

import numpy as np
import pytest

from latentjax import models
from latentjax.modes import benchmark

IMAGES = np.random.default_rng(0).integers(0, 256, (9, 5, 4, 1), np.uint8)


@pytest.mark.parametrize("num_seeds", [1, 3])
@pytest.mark.parametrize("file", ["vae", "ladder_vae"])
@pytest.mark.parametrize("phase", ["train", "eval", "sample"])
def test_every_phase_is_measured(file, phase, num_seeds, monkeypatch):
  """A product of known cost stands for the machine's own rate. Of several seeds all images count, but for samples."""
  config = importlib.import_module(f"configs.{file}").get_config()
  config.model.update({"hidden_dims": (6,), **({"latent_dims": (3,)} if file == "ladder_vae" else {"latent_dim": 3})})
  config.benchmark.phase, config.train.num_seeds = phase, num_seeds
  monkeypatch.setattr(benchmark, "SHORTEST", 0.001)
  monkeypatch.setattr(benchmark, "create_product", lambda precision: (lambda: np.zeros(()), 1000))
  workload = benchmark.create_workload(config, models.create(config.model, (5, 4, 1)), IMAGES, batch_size=4)
  row = benchmark.measure(workload, 4, "float32", measurements=20)
  assert row["batch_size"] == 4
  images = 4 * (num_seeds if phase != "sample" else 1)
  assert row["images_per_second"] == pytest.approx(1e3 * images / row["step_time_ms"])
  assert row["step_time_ms_p90"] >= row["step_time_ms"] > 0
  assert row["flops_per_second"] == pytest.approx(row["flops_per_image"] * row["images_per_second"])
  dense = 20 * 6 + 6 * 6 + 3 * 6 + 6 * 20  # weights of encoder, posterior, decoder, pixels
  forward = 2 * (dense if phase != "sample" else 3 * 6 + 6 * 20)
  if phase == "train":
    assert 2 * forward < row["flops_per_image"] <= 3 * forward
  else:
    assert row["flops_per_image"] == forward
