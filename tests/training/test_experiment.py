"""Errors of experiments that cannot be created."""

import numpy as np
import pytest
import tiny

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
