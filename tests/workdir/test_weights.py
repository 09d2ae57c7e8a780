"""Weights files: round trips, other tools, damage and later formats."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from latentjax.runtime.errors import RunError
from latentjax.training.state import TrainState
from latentjax.workdir import records, weights

SHAPE, SEEDS = (5, 4, 1), [7, 8]


def variables(offset: float) -> dict:
  kernel = offset + np.arange(6, dtype=np.float32).reshape(2, 3)
  return {"params": {"dense": {"kernel": kernel, "gain": kernel[0, 0]}}, "batch_stats": {"norm": {"mean": kernel[0]}}}


@pytest.fixture
def path(tmp_path) -> Path:
  """The file of seed 7 at step 30; `rewritten` changes it."""
  path = tmp_path / "model.safetensors"
  weights.write_weights(path, SHAPE, 7, 30, variables(0))
  return path


def rewritten(path: Path, **changes: str) -> None:
  """Writes a file again, by safetensors itself, with other metadata."""
  with safe_open(path, framework="np") as file:
    metadata = file.metadata()
  save_file(load_file(path), path, metadata | changes)


def assert_equal(found: weights.Weights, step: int, expected: dict) -> None:
  assert (found.image_shape, found.step) == (SHAPE, step)
  assert {leaf.dtype for leaf in jax.tree.leaves(found.variables)} == {np.dtype(np.float32)}
  jax.tree.map(np.testing.assert_array_equal, found.variables, expected)


def test_weights_come_back(path, tmp_path):
  assert_equal(weights.read_weights(path), 30, variables(0))
  assert weights.read_weights(tmp_path / "other.safetensors") is None
  weights.write_weights(path, SHAPE, 7, 31, jax.tree.map(np.asfortranarray, variables(0.5)))
  assert_equal(weights.read_weights(path), 31, jax.tree.map(np.asfortranarray, variables(0.5)))


def test_any_tool_reads_the_file_and_its_metadata(path):
  with safe_open(path, framework="np") as file:
    assert file.metadata() == {"format": "1", "image_shape": "[5, 4, 1]", "seed": "7", "step": "30"}
    assert sorted(file.keys()) == ["batch_stats/norm/mean", "params/dense/gain", "params/dense/kernel"]
    np.testing.assert_array_equal(file.get_tensor("params/dense/kernel"), variables(0)["params"]["dense"]["kernel"])
  rewritten(path, title="mine")
  assert_equal(weights.read_weights(path), 30, variables(0))


def test_half_precision_is_read_as_single(path):
  weights.write_weights(path, SHAPE, 7, 30, jax.tree.map(lambda x: (x / 3).astype(np.float16), variables(0)))
  assert_equal(
    weights.read_weights(path), 30, jax.tree.map(lambda x: (x / 3).astype(np.float16).astype(np.float32), variables(0))
  )


def test_the_same_weights_are_the_same_bytes(path):
  """In every process, although safetensors orders metadata at random."""
  program = (
    "import sys; from pathlib import Path; import numpy as np; from latentjax.workdir import weights\n"
    "kernel = np.arange(6, dtype=np.float32).reshape(2, 3)\n"
    "params = {'dense': {'kernel': kernel, 'gain': kernel[0, 0]}}\n"
    "variables = {'params': params, 'batch_stats': {'norm': {'mean': kernel[0]}}}\n"
    f"weights.write_weights(Path(sys.argv[1]), {SHAPE}, 7, 30, variables)\n"
  )
  other = path.with_name("other.safetensors")
  subprocess.run([sys.executable, "-c", program, str(other)], check=True, cwd=Path(__file__).parents[2])
  assert other.read_bytes() == path.read_bytes()


def state_at(step: int) -> TrainState:
  """Of two seeds, with other weights at every step."""
  both = jax.tree.map(lambda *leaves: jnp.stack(leaves), variables(step), variables(step + 0.5))
  return TrainState(jnp.int32(step), both["params"], None, both["batch_stats"], None)


def test_the_best_weights_of_every_seed_are_kept(tmp_path):
  best, paths = weights.BestWeights(tmp_path, SHAPE, SEEDS), [tmp_path / f"model-{i}.safetensors" for i in (0, 1)]

  def update(step: int, best_steps: list[int]) -> list[bool]:
    """Updates the best weights, and returns True for every file that was written."""
    before = [path.exists() and path.stat().st_ino for path in paths]
    best.update(state_at(step), best_steps)
    return [path.exists() and path.stat().st_ino != inode for path, inode in zip(paths, before, strict=True)]

  assert update(10, [10, 20]) == [True, False]
  assert update(20, [10, 20]) == [False, True]
  assert update(30, [10, 20]) == update(20, [10, 20]) == [False, False]
  assert update(40, [40, 20]) == [True, False]
  for path, seed, step, expected in zip(paths, SEEDS, (40, 20), (variables(40), variables(20.5)), strict=True):
    assert_equal(weights.read_weights(path), step, expected)
    with safe_open(path, framework="np") as file:
      assert file.metadata()["seed"] == str(seed)


def cut(path: Path) -> None:
  path.write_bytes(path.read_bytes()[:-3])


def zip_file(path: Path) -> None:
  np.savez(path.with_suffix(".npz"), format=1, image_shape=SHAPE)
  path.with_suffix(".npz").replace(path)


DAMAGES = {
  "cut": cut,
  "empty": lambda path: path.write_bytes(b""),
  "text": lambda path: path.write_bytes(b"not a file of this kind"),
  "npz": zip_file,
  "not finite": lambda path: weights.write_weights(path, SHAPE, 7, 30, variables(np.nan)),
  "no metadata": lambda path: save_file(load_file(path), path),
  "foreign": lambda path: rewritten(path, format="pt"),
  "image_shape": lambda path: rewritten(path, image_shape="[28, 28]"),
  "step": lambda path: rewritten(path, step="1.5"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_one_line(path, damage):
  DAMAGES[damage](path)
  with pytest.raises(RunError, match=r"model\.safetensors is damaged \(.+\)\. Delete it") as error:
    weights.read_weights(path)
  assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("kind", [errno.EACCES, errno.EIO])
def test_an_unreadable_file_is_not_called_damaged(path, monkeypatch, kind):
  (path.parent / "config.json").write_text("{}")

  def refuse(path, *_, **__):
    raise OSError(kind, os.strerror(kind), str(path))

  monkeypatch.setattr(Path, "open", refuse)
  monkeypatch.setattr(Path, "read_bytes", refuse)
  for read in (lambda: weights.read_weights(path), lambda: records.read_config(path.parent)):
    with pytest.raises(RunError, match=rf"Cannot read .*(model\.safetensors|config\.json) .{os.strerror(kind)}."):
      read()


def test_a_later_format_is_refused_whatever_its_content(path):
  rewritten(path, format=str(records.FORMAT + 1), image_shape="x")
  with pytest.raises(RunError, match="has format 2, and this version of latentjax reads up to 1"):
    weights.read_weights(path)
