"""What is said is kept, whatever becomes of the file or the run."""

import time

import pytest
from rich.table import Table

from latentjax.console import console, say_if_slow
from latentjax.errors import RunError, Stopped


def lines(path) -> list[str]:
  return path.read_text(encoding="utf-8").splitlines()


def test_a_log_has_what_was_said_and_the_command(tmp_path, capsys, monkeypatch):
  monkeypatch.setattr("sys.argv", ["main.py", "--workdir=a b"])
  path, table = tmp_path / "train.log", Table("name")
  table.add_row("漢字 ± 1")
  console.print("before")
  with console.kept_in(path):
    console.print("epoch 1")
    console.print(table)
  with console.kept_in(path):
    console.print("epoch 2")
  console.print("after")
  said = capsys.readouterr().out.splitlines()
  kept = lines(path)
  heads = [index for index, line in enumerate(kept) if line.endswith("main.py '--workdir=a b'")]
  assert heads == [1, len(kept) - 2]
  assert kept[2:-3] + kept[-1:] == said[1:-1]


def test_a_log_begins_with_what_was_noted_before_it_was_there(tmp_path, monkeypatch):
  monkeypatch.setattr("sys.argv", ["main.py"])
  with console.noted():
    console.print("decoding once")
    with console.kept_in(tmp_path / "train.log"):
      console.print("epoch 1")
  with console.kept_in(tmp_path / "train.log"):
    console.print("epoch 2")
  kept = lines(tmp_path / "train.log")
  assert [line for line in kept if "main.py" not in line] == ["", "decoding once", "epoch 1", "", "epoch 2"]


@pytest.mark.parametrize(
  ("error", "line"),
  [(RunError("it diverged"), "error: it diverged"), (Stopped(2), "stopped"), (KeyError("x"), "error: KeyError: 'x'")],
)
def test_a_log_says_how_it_ended(tmp_path, error, line):
  with pytest.raises(type(error)), console.kept_in(tmp_path / "train.log"):
    raise error
  assert lines(tmp_path / "train.log")[-1] == line


def test_a_log_that_cannot_be_written_ends_nothing(tmp_path, capsys):
  (tmp_path / "train.log").mkdir()
  with console.kept_in(tmp_path / "train.log"):
    console.print("on")
  assert capsys.readouterr().out.endswith(
    "train.log cannot be written (Is a directory): what is said here is not kept\non\n"
  )
  (tmp_path / "full.log").symlink_to("/dev/full")
  with console.kept_in(tmp_path / "full.log"):
    console.print("on")
  assert capsys.readouterr().out == "on\n"


def test_a_heading_stands_above_the_first_line_and_alone_is_not_said(capsys):
  console.heading = "configs/vae.py: demo"
  assert capsys.readouterr().out == ""
  console.print("one")
  console.print("two")
  assert capsys.readouterr().out == "configs/vae.py: demo\none\ntwo\n"


def test_what_takes_long_says_so_and_what_does_not_is_silent(monkeypatch, capsys):
  monkeypatch.setattr("latentjax.console.PATIENCE", 0.5)
  with say_if_slow():
    pass
  time.sleep(0.7)
  assert capsys.readouterr().out == ""
  monkeypatch.setattr("latentjax.console.PATIENCE", 0.05)
  with say_if_slow():
    time.sleep(0.5)
  assert capsys.readouterr().out.startswith("compiling takes a while")
