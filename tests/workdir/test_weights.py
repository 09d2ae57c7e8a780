"""model.npz: round trips, damage and later formats."""

import ast
import errno
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from latentjax.runtime.errors import RunError
from latentjax.training.state import TrainState
from latentjax.workdir import records, weights

SHAPE, SEEDS, STEPS = (5, 4, 1), [7, 8], [30, 20]


def variables(offset: float) -> dict:
  kernel = offset + np.arange(6, dtype=np.float32).reshape(2, 3)
  return {"params": {"dense": {"kernel": kernel}}, "batch_stats": {"norm": {"mean": kernel[0]}}}


def test_every_seed_comes_back(tmp_path):
  assert weights.read_weights(tmp_path) is None
  weights.write_weights(tmp_path, SHAPE, SEEDS, STEPS, [variables(0), variables(0.5)])
  found = weights.read_weights(tmp_path)
  assert (found.image_shape, found.steps) == (SHAPE, STEPS)
  kernels = found.variables["params"]["dense"]["kernel"]
  assert kernels.dtype == np.float32
  np.testing.assert_array_equal(
    kernels, [variables(0)["params"]["dense"]["kernel"], variables(0.5)["params"]["dense"]["kernel"]]
  )
  np.testing.assert_array_equal(found.variables["batch_stats"]["norm"]["mean"], kernels[:, 0])


def test_the_same_weights_are_the_same_bytes(tmp_path):
  for name in ("a", "b"):
    (tmp_path / name).mkdir()
    weights.write_weights(tmp_path / name, SHAPE, SEEDS, STEPS, [variables(0), variables(1)])
  assert (tmp_path / "a" / "model.npz").read_bytes() == (tmp_path / "b" / "model.npz").read_bytes()


def state_at(step: int) -> TrainState:
  """Of two seeds, with other weights at every step."""
  both = jax.tree.map(lambda *leaves: jnp.stack(leaves), variables(step), variables(step + 0.5))
  return TrainState(jnp.int32(step), both["params"], None, both["batch_stats"], None)


def test_the_best_weights_of_every_seed_are_kept(tmp_path):
  best = weights.BestWeights(tmp_path, SHAPE, SEEDS)
  best.update(state_at(10), [10, 20])
  assert weights.read_weights(tmp_path) is None  # a file needs the weights of all seeds
  best.update(state_at(20), [10, 20])
  before = (tmp_path / "model.npz").stat().st_ino
  best.update(state_at(30), [10, 20])
  best.update(state_at(20), [10, 20])
  assert (tmp_path / "model.npz").stat().st_ino == before  # not written again
  best.update(state_at(40), [40, 20])
  (tmp_path / "expected").mkdir()
  weights.write_weights(tmp_path / "expected", SHAPE, SEEDS, [40, 20], [variables(40), variables(20.5)])
  assert (tmp_path / "model.npz").read_bytes() == (tmp_path / "expected" / "model.npz").read_bytes()


DAMAGES = ["half", "pickle", "no shape", "no zip", "not finite", "image_shape=28,28", "step=1", "step=1.5"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_one_line(tmp_path, damage):
  path = tmp_path / "model.npz"
  weights.write_weights(tmp_path, SHAPE, SEEDS, STEPS, [variables(0), variables(1)])
  if damage == "half":
    path.write_bytes(path.read_bytes()[:-300])
  elif damage == "pickle":
    np.savez(path, format=1, image_shape=np.array([{}], dtype=object))
  elif damage == "no shape":
    np.savez(path, format=1)
  elif damage == "not finite":
    weights.write_weights(tmp_path, SHAPE, SEEDS, STEPS, [variables(0), variables(np.nan)])
  elif damage == "no zip":
    path.write_bytes(b"no zip")
  else:
    name, _, value = damage.partition("=")
    changed = {name: np.array(ast.literal_eval(value))}
    with np.load(path) as arrays:
      np.savez(path, **(dict(arrays) | changed))
  with pytest.raises(RunError, match=r"model\.npz is damaged") as error:
    weights.read_weights(tmp_path)
  assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("kind", [errno.EACCES, errno.EIO])
def test_an_unreadable_file_is_not_called_damaged(tmp_path, monkeypatch, kind):
  weights.write_weights(tmp_path, SHAPE, SEEDS, STEPS, [variables(0), variables(1)])
  (tmp_path / "config.json").write_text("{}")

  def refuse(path, *_, **__):
    raise OSError(kind, os.strerror(kind), str(path))

  monkeypatch.setattr(Path, "open", refuse)
  monkeypatch.setattr(Path, "read_text", refuse)
  for file, read in (("model.npz", weights.read_weights), ("config.json", records.read_config)):
    with pytest.raises(RunError, match=f"Cannot read .*{file} .{os.strerror(kind)}."):
      read(tmp_path)


def test_a_later_format_is_refused_whatever_its_content(tmp_path):
  np.savez(tmp_path / "model.npz", format=records.FORMAT + 1, tensors=np.zeros(3))
  with pytest.raises(RunError, match="has format 2, and this version of latentjax reads up to 1"):
    weights.read_weights(tmp_path)
