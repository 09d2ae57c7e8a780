"""The origin of a run names the code and the libraries that really ran."""

import subprocess

import jax
import pytest

import latentjax
from latentjax.workdir import records


def git(directory, *args: str) -> str:
  identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
  return subprocess.run(["git", "-C", directory, *identity, *args], check=True, capture_output=True, text=True).stdout


def test_commit_and_dirt_of_its_own_repository(tmp_path, monkeypatch):
  monkeypatch.setattr(records, "REPOSITORY", tmp_path)
  assert records.git_commit() is None
  git(tmp_path, "init")
  (tmp_path / "file").write_text("1")
  git(tmp_path, "add", "file")
  git(tmp_path, "commit", "-m", "first")
  commit = git(tmp_path, "rev-parse", "HEAD").strip()
  assert records.git_commit() == {"commit": commit, "dirty": False}
  (tmp_path / "file").write_text("2")
  assert records.git_commit() == {"commit": commit, "dirty": True}
  (tmp_path / "inner").mkdir()
  monkeypatch.setattr(records, "REPOSITORY", tmp_path / "inner")  # installed inside somebody else's repository
  assert records.git_commit() is None


def test_origin_has_all_that_decides_the_numbers(monkeypatch):
  monkeypatch.setenv("XLA_FLAGS", "")
  monkeypatch.setattr("sys.argv", ["main.py", "--config.model.hidden_dims=(8, 4)"])
  origin = records.current_provenance("abc")
  assert origin["command"] == "main.py '--config.model.hidden_dims=(8, 4)'"
  assert origin["versions"]["jax"] == jax.__version__
  assert origin["versions"]["latentjax"] == latentjax.__version__
  assert {"flax", "optax"} <= origin["versions"].keys()
  assert jax.devices()[0].device_kind in origin["device"]
  assert origin["environment"]["XLA_FLAGS"] == ""
  assert origin["dataset_sha256"] == "abc"


@pytest.mark.parametrize("missing", [FileNotFoundError, subprocess.TimeoutExpired("git", 30)])
def test_without_git(monkeypatch, missing):
  def fail(*args, **kwargs):
    raise missing

  monkeypatch.setattr(subprocess, "run", fail)
  assert records.git_commit() is None
