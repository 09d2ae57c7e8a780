"""Errors of experiments that cannot be created."""

import numpy as np
import pytest
import tiny

from latentjax.data import dataset
from latentjax.runtime.errors import UsageError
from latentjax.training.experiment import create_experiment


@pytest.mark.parametrize(
  ("count", "message"),
  [
    (2, r"mine\.npz has too few images\. None are left for training"),
    (3, r"train\.batch_size = 16 is larger than the 1 training image of .*mine\.npz \(without validation and test\)"),
  ],
)
def test_too_few_images_are_an_error(tmp_path, monkeypatch, count, message):
  monkeypatch.setenv("LATENTJAX_CACHE_DIR", str(tmp_path / "cache"))
  np.savez(tmp_path / "mine.npz", train=np.zeros((count, 28, 28), np.uint8))
  config = tiny.create_config("vae", {"data.name": str(tmp_path / "mine.npz")})
  with pytest.raises(UsageError, match=message):
    create_experiment(config)


def test_more_steps_than_int32_counts_are_refused():
  config = tiny.create_config("vae", {"train.epochs": 10**6, "train.batch_size": 16})
  create_experiment(config)
  big = np.broadcast_to(np.zeros((1, 28, 28, 1), np.uint8), (2148 * 16, 28, 28, 1))
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(dataset, "load_dataset", lambda **keys: dataset.Dataset(big, big[:1], big[:1], "dynamic"))
    with pytest.raises(UsageError, match=r"epochs = 1000000 takes 2,148,000,000 steps, but at most 2,147,483,647"):
      create_experiment(config)
