"""Directories created for runs without --workdir, and their removal if empty."""

from pathlib import Path

import pytest

from latentjax.runtime.errors import RunError, UsageError
from latentjax.workdir import directory


def test_runs_of_the_same_second_get_directories_of_their_own(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  workdirs = [directory.create_workdir("vae-demo") for _ in range(5)]
  assert len(set(workdirs)) == 5
  assert all(workdir.name.startswith("vae-demo-") for workdir in workdirs)


def test_only_empty_directories_are_removed(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  empty, used = directory.create_workdir("vae"), directory.create_workdir("draw")
  (used / "config.json").touch()
  for workdir in (empty, used):
    directory.remove_if_empty(workdir)
  assert not empty.exists()
  assert used.exists()
  used.joinpath("config.json").unlink()
  directory.remove_if_empty(used)
  assert list(tmp_path.iterdir()) == []


def test_a_tilde_is_the_home_directory(tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path))
  assert directory.parse_workdir("~/runs/draw") == tmp_path / "runs" / "draw"
  with pytest.raises(UsageError, match="no such user"):
    directory.parse_workdir("~no_such_user/runs")


def test_an_unreadable_workdir_is_one_line(tmp_path, monkeypatch):
  def refuse(path):
    raise PermissionError(13, "Permission denied", str(path))

  monkeypatch.setattr(Path, "exists", refuse)
  with pytest.raises(RunError, match=r"Cannot read .* \(Permission denied\)\. Choose another --workdir"):
    directory.parse_workdir(str(tmp_path))
