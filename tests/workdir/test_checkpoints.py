"""Checkpoints: retention, restoring, damage, and full disks."""

import errno
import os
import re
import resource
import shutil
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from latentjax.runtime.errors import RunError
from latentjax.workdir.checkpoints import Checkpointer, verify_manifest


@struct.dataclass
class State:
  step: jnp.ndarray
  weights: dict


def state_at(step: int) -> State:
  return State(jnp.int32(step), {"kernel": jnp.full((2, 3), float(step)), "nested": {"bias": jnp.arange(3.0)}})


def kept(directory) -> list[str]:
  return sorted(path.name for path in directory.iterdir())


def test_the_two_newest_and_the_best_are_kept_and_come_back(tmp_path):
  directory = tmp_path / "checkpoints"
  checkpoints = Checkpointer(directory)
  assert (checkpoints.latest_step, checkpoints.best_steps) == (None, [])
  for step, elbo in ((1, -90.0), (2, -80.0), (3, -85.0), (4, -80.0), (5, -84.0)):
    checkpoints.save(state_at(step), elbo)
  checkpoints = Checkpointer(directory)
  assert (checkpoints.latest_step, checkpoints.best_steps) == (5, [2])
  for step in (2, 4, 5):
    restored = checkpoints.restore(step, state_at(0))
    assert int(restored.step) == step
    np.testing.assert_array_equal(restored.weights["kernel"], np.full((2, 3), step))
  assert kept(directory) == ["2", "4", "5"]


def test_every_seeds_best_is_kept(tmp_path):
  """A bound that is not finite is none."""
  checkpoints, nan = Checkpointer(tmp_path), float("nan")
  for step, elbos in enumerate(([-90.0, -70.0], [-80.0, nan], [-85.0, -75.0], [nan, -76.0]), start=1):
    checkpoints.save(state_at(step), elbos)
  checkpoints.save(state_at(5), partial={"loss": jnp.zeros(2)})
  assert Checkpointer(tmp_path).best_steps == [2, 1]
  assert kept(tmp_path) == ["1", "2", "4", "5"]


def test_a_checkpoint_in_mid_epoch_is_newest_and_never_best(tmp_path):
  checkpoints = Checkpointer(tmp_path)
  checkpoints.save(state_at(3), partial={"loss": jnp.float32(0.1), "seconds": 2.5})
  assert (checkpoints.latest_step, checkpoints.best_steps) == (3, [])
  target = {"loss": jnp.float32(0), "seconds": 0.0}
  assert checkpoints.restore_partial(3, target) == {"loss": np.float32(0.1), "seconds": 2.5}
  checkpoints.save(state_at(3), bound=-9.0)  # the same step, now with its validation
  assert (checkpoints.latest_step, checkpoints.best_steps) == (3, [3])
  assert checkpoints.restore_partial(3, target) is None


def test_a_flipped_bit_in_any_file_is_detected(tmp_path):
  checkpoints = Checkpointer(tmp_path)
  checkpoints.save(state_at(1), -1.0, partial={"loss": jnp.float32(0.1)})
  assert verify_manifest(tmp_path / "1") == -1.0
  files = [path for path in (tmp_path / "1").rglob("*") if path.is_file()]
  assert len(files) > 4
  for path in files:
    content = path.read_bytes()
    for position in {0, len(content) // 2, len(content) - 1} if content else ():
      flipped = bytearray(content)
      flipped[position] ^= 1
      path.write_bytes(bytes(flipped))
      with pytest.raises((ValueError, OSError)):
        verify_manifest(tmp_path / "1")
    path.unlink()
    with pytest.raises((ValueError, OSError)):
      verify_manifest(tmp_path / "1")
    path.write_bytes(content)
  assert verify_manifest(tmp_path / "1") == -1.0


def test_damaged_checkpoints_are_ignored_and_replaced_by_whole_ones(tmp_path, capsys):
  checkpoints = Checkpointer(tmp_path)
  for step in (1, 2, 3):
    checkpoints.save(state_at(step), float(step))
  (tmp_path / "3" / "manifest.json").unlink()
  (tmp_path / "4.unfinished").mkdir()  # of a killed run
  before = kept(tmp_path)
  assert Checkpointer(tmp_path, read_only=True).latest_step == 2
  assert kept(tmp_path) == before
  checkpoints = Checkpointer(tmp_path)
  capsys.readouterr()
  assert (checkpoints.latest_step, checkpoints.best_steps) == (2, [2])
  out = capsys.readouterr().out
  assert out.startswith("Ignoring the checkpoint of step 3: [Errno 2] No such file or directory:")
  assert len(out.splitlines()) == 1
  checkpoints.save(state_at(3), 3.0)
  assert (checkpoints.latest_step, checkpoints.best_steps) == (3, [3])
  shutil.rmtree(tmp_path / "3" / "state")
  shutil.rmtree(tmp_path / "2" / "state")
  with pytest.raises(RunError, match="No checkpoint in"):
    _ = Checkpointer(tmp_path).latest_step


def test_a_checkpoint_that_cannot_be_read_for_a_moment_is_not_removed(tmp_path, capsys, monkeypatch):
  checkpoints = Checkpointer(tmp_path)
  for step, elbo in ((1, -1.0), (2, -2.0), (3, -3.0)):
    checkpoints.save(state_at(step), elbo)
  whole = verify_manifest

  def failing(path):
    if path.name == "1":
      raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
    return whole(path)

  monkeypatch.setattr("latentjax.workdir.checkpoints.verify_manifest", failing)
  checkpoints = Checkpointer(tmp_path)
  assert checkpoints.best_steps == [2]
  assert "step 1: [Errno 116] Stale file handle" in capsys.readouterr().out
  for step in (4, 5):
    checkpoints.save(state_at(step), -4.0)
  assert kept(tmp_path) == ["1", "2", "4", "5"]
  monkeypatch.setattr("latentjax.workdir.checkpoints.verify_manifest", whole)
  assert Checkpointer(tmp_path).best_steps == [1]


def test_a_step_is_saved_again_before_its_old_checkpoint_is_removed(tmp_path, monkeypatch):
  checkpoints = Checkpointer(tmp_path)
  checkpoints.save(state_at(1))
  present = []
  monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: present.append(kept(tmp_path)))
  checkpoints.save(state_at(1), -1.0)
  assert present == [["1", "1.removed"]]


def test_an_older_checkpoint_is_used_after_a_kill_between_the_renames(tmp_path):
  checkpoints = Checkpointer(tmp_path)
  for step in (1, 2):
    checkpoints.save(state_at(step), -1.0)
  (tmp_path / "2").rename(tmp_path / "2.removed")
  (tmp_path / "2.unfinished").mkdir()
  assert Checkpointer(tmp_path).latest_step == 1
  assert kept(tmp_path) == ["1"]


# Once one array cannot be written, Orbax closes the event loop to which other writer threads may still report.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_full_disk_leaves_the_checkpoint_before(tmp_path):
  checkpoints = Checkpointer(tmp_path)
  checkpoints.save(state_at(1), -1.0)
  large = state_at(2).replace(weights={"kernel": jnp.asarray(np.random.default_rng(0).normal(size=(300, 300)))})
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
  try:
    with pytest.raises(RunError, match=r"Cannot write a checkpoint to .* \(File too large\)\. Earlier ones are intact"):
      checkpoints.save(large, -0.5)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  assert not {"2", "2.removed"} & {*kept(tmp_path)}
  assert (checkpoints.latest_step, checkpoints.best_steps) == (1, [1])
  assert int(checkpoints.restore(1, state_at(0)).step) == 1


def test_too_little_free_space_is_reported_in_bytes(tmp_path, monkeypatch):
  checkpoints = Checkpointer(tmp_path)
  monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10))
  with pytest.raises(RunError, match=r"No space left on device: 40 bytes needed, 10 free"):
    checkpoints.save(state_at(1), -1.0)
  assert kept(tmp_path) == []


MISFITS = {
  "another shape": ({"kernel": jnp.zeros((2, 4))}, "weights.kernel"),
  "another type": ({"kernel": jnp.zeros((2, 3), jnp.int32)}, "weights.kernel"),
  "a missing key": ({"other": jnp.zeros(3)}, "weights.other"),
  "an extra key": ({"kernel": None}, "weights.kernel"),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_a_state_that_does_not_fit_is_refused_by_name_and_stays(tmp_path, capfd, misfit):
  """Before Orbax reads: each of its other threads would print a traceback."""
  change, name = MISFITS[misfit]
  checkpoints = Checkpointer(tmp_path)
  checkpoints.save(state_at(1), -1.0)
  target = state_at(0)
  with pytest.raises(RunError, match=re.escape(f"does not fit the config: {name} differs")) as error:
    checkpoints.restore(1, target.replace(weights=target.weights | change))
  assert "The checkpoint of step 1 in" in str(error.value)
  assert "\n" not in str(error.value)
  assert capfd.readouterr() == ("", "")
  assert kept(tmp_path) == ["1"]
  assert int(checkpoints.restore(1, target).step) == 1
