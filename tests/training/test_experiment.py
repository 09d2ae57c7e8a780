"""What a config describes, made: or one line that says why it cannot be."""

import importlib

import numpy as np
import pytest

from latentjax.runtime.errors import UsageError
from latentjax.training.experiment import create_experiment


@pytest.mark.parametrize(
  ("count", "message"),
  [
    (2, r"mine\.npz has too few images: beside validation and test none is left to train on"),
    (3, r"train\.batch_size = 128 is larger than the 1 training image of .*mine\.npz, beside those for validation"),
  ],
)
def test_a_set_that_is_too_small_is_said_to_be(tmp_path, monkeypatch, count, message):
  monkeypatch.setenv("LATENTJAX_CACHE_DIR", str(tmp_path / "cache"))
  np.savez(tmp_path / "mine.npz", train=np.zeros((count, 28, 28), np.uint8))
  config = importlib.import_module("configs.vae").get_config("default")
  config.data.name = str(tmp_path / "mine.npz")
  with pytest.raises(UsageError, match=message):
    create_experiment(config)
