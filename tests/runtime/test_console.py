"""The console, its log, and standard streams that are closed, full or cannot encode a character."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.table import Table

from latentjax.runtime.console import compiling, console
from latentjax.runtime.errors import Interrupted, RunError

ROOT = Path(__file__).resolve().parents[2]
TALK = """
import os, sys
from latentjax.console import protect_stdio
protect_stdio()
for number in range(20_000):
  print("said", number)
print("wrong", file=sys.stderr)
with open(sys.argv[1], "w") as file:
  file.write(f"{type(sys.stdout.failure).__name__} {file.fileno() > 2}")
"""


def lines(path) -> list[str]:
  return path.read_text(encoding="utf-8").splitlines()


def test_a_log_has_what_was_said_and_the_command(tmp_path, capsys, monkeypatch):
  monkeypatch.setattr("sys.argv", ["main.py", "--workdir=a b"])
  path, table = tmp_path / "train.log", Table("name")
  table.add_row("漢字 ± 1")
  console.print("before")
  with console.log_to(path):
    console.print("epoch 1")
    console.print(table)
  with console.log_to(path):
    console.print("epoch 2")
  console.print("after")
  said = capsys.readouterr().out.splitlines()
  kept = lines(path)
  heads = [index for index, line in enumerate(kept) if line.endswith("main.py '--workdir=a b'")]
  assert heads == [1, len(kept) - 2]
  assert kept[2:-3] + kept[-1:] == said[1:-1]


def test_a_log_begins_with_what_was_noted_before_it_was_there(tmp_path, monkeypatch):
  monkeypatch.setattr("sys.argv", ["main.py"])
  with console.buffered():
    console.print("decoding once")
    with console.log_to(tmp_path / "train.log"):
      console.print("epoch 1")
  with console.log_to(tmp_path / "train.log"):
    console.print("epoch 2")
  kept = lines(tmp_path / "train.log")
  assert [line for line in kept if "main.py" not in line] == ["", "decoding once", "epoch 1", "", "epoch 2"]


@pytest.mark.parametrize(
  ("error", "line"),
  [
    (RunError("it diverged"), "error: it diverged"),
    (Interrupted(2), "stopped"),
    (KeyError("x"), "error: KeyError: 'x'"),
  ],
)
def test_a_log_says_how_it_ended(tmp_path, error, line):
  with pytest.raises(type(error)), console.log_to(tmp_path / "train.log"):
    raise error
  assert lines(tmp_path / "train.log")[-1] == line


def test_a_log_that_cannot_be_written_ends_nothing(tmp_path, capsys):
  (tmp_path / "train.log").mkdir()
  with console.log_to(tmp_path / "train.log"):
    console.print("on")
  assert capsys.readouterr().out.endswith(
    "train.log cannot be written (Is a directory): what is said here is not kept\non\n"
  )
  (tmp_path / "full.log").symlink_to("/dev/full")
  with console.log_to(tmp_path / "full.log"):
    console.print("on")
  assert capsys.readouterr().out == "on\n"


@pytest.mark.parametrize("terminal", [True, False])
def test_a_spinner_turns_while_functions_are_compiled_on_a_terminal_only(terminal, tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(console, "_force_terminal", terminal)
  monkeypatch.setattr(console, "is_interactive", terminal)
  with console.log_to(tmp_path / "train.log"), compiling():
    pass
  out = capsys.readouterr().out
  assert "compiling" in out if terminal else out == ""
  assert "compiling" not in (tmp_path / "train.log").read_text()


def talk(tmp_path: Path, redirection: str) -> str:
  """Returns what a process reports whose output a shell redirected."""
  script, out = tmp_path / "talk.py", tmp_path / "out"
  script.write_text(TALK)
  command = f'set -o pipefail; "{sys.executable}" "{script}" "{out}" {redirection}'
  done = subprocess.run(
    ["bash", "-c", command], env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60
  )
  assert (done.returncode, "Error" in done.stderr, "Exception" in done.stderr) == (0, False, False), done.stderr
  return out.read_text()


@pytest.mark.parametrize(
  ("redirection", "failure"),
  [
    ("| head -1", "BrokenPipeError"),
    ("> /dev/full", "OSError"),
    ("> /dev/full 2> /dev/full", "OSError"),
    (">&-", "NoneType"),
    (">&- 2>&- <&-", "NoneType"),
    ("> /dev/null", "NoneType"),
  ],
)
def test_a_closed_or_full_output_does_not_end_a_process(tmp_path, redirection, failure):
  """And no file that is opened takes the number of a closed stream, into which libraries would write."""
  assert talk(tmp_path, redirection) == f"{failure} True"


def test_a_character_that_cannot_be_encoded_is_escaped():
  code = "from latentjax.console import protect_stdio; protect_stdio(); print('\\u6f22')"
  environment = os.environ | {"PYTHONIOENCODING": "ascii"}
  done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, timeout=60)
  assert (done.stdout, done.stderr) == (b"\\u6f22\n", b"")
