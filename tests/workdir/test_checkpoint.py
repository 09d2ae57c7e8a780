"""Checkpoints: what is kept, what comes back, and what is refused."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from latentjax.errors import RunError
from latentjax.workdir.checkpoint import Checkpoints


@struct.dataclass
class State:
  step: jnp.ndarray
  weights: dict


def state_at(step: int) -> State:
  return State(jnp.int32(step), {"kernel": jnp.full((2, 3), float(step)), "nested": {"bias": jnp.arange(3.0)}})


def test_newest_and_best_are_kept_and_come_back(tmp_path):
  directory = tmp_path / "checkpoints"
  with Checkpoints(directory) as checkpoints:
    assert checkpoints.newest is checkpoints.best is None
    for step, elbo in ((1, -90.0), (2, -80.0), (3, -85.0), (4, -84.0)):
      checkpoints.save(state_at(step), elbo)
  with Checkpoints(directory) as checkpoints:
    assert (checkpoints.newest, checkpoints.best) == (4, 2)
    for step in (2, 4):
      restored = checkpoints.restore(step, state_at(0))
      assert int(restored.step) == step
      np.testing.assert_array_equal(restored.weights["kernel"], np.full((2, 3), step))
  assert sorted(path.name for path in directory.iterdir()) == ["2", "4"]


def test_a_damaged_checkpoint_is_refused(tmp_path):
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(state_at(1), -1.0)
    for file in (tmp_path / "1").rglob("*"):
      if file.is_file() and "metrics" not in str(file):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(RunError, match="step 1"):
      checkpoints.restore(1, state_at(0))
