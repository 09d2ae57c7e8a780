"""The console, its log, error messages, and standard streams that are closed, full or cannot encode a character."""

import os
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock

import pytest
import rich.console
from rich.table import Table

from latentjax.runtime.console import compiling, console, progress
from latentjax.runtime.errors import Interrupted, RunError, user_message

ROOT = Path(__file__).resolve().parents[2]
TALK = """
import os, sys
from latentjax.runtime.console import protect_stdio
protect_stdio()
for number in range(20_000):
  print("said", number)
print("wrong", file=sys.stderr)
with open(sys.argv[1], "w") as file:
  file.write(str(file.fileno() > 2))
"""


def lines(path) -> list[str]:
  return path.read_text(encoding="utf-8").splitlines()


def test_log_has_the_command_and_the_output(tmp_path, capsys, monkeypatch):
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
  printed = capsys.readouterr().out.splitlines()
  logged = lines(path)
  heads = [index for index, line in enumerate(logged) if line.endswith("main.py '--workdir=a b'")]
  assert heads == [1, len(logged) - 2]
  assert logged[2:-3] + logged[-1:] == printed[1:-1]


def test_log_begins_with_buffered_output(tmp_path, monkeypatch):
  monkeypatch.setattr("sys.argv", ["main.py"])
  with console.buffered():
    console.print("decoding once")
    with console.log_to(tmp_path / "train.log"):
      console.print("epoch 1")
  with console.log_to(tmp_path / "train.log"):
    console.print("epoch 2")
  logged = lines(tmp_path / "train.log")
  assert [line for line in logged if "main.py" not in line] == ["", "decoding once", "epoch 1", "", "epoch 2"]


@pytest.mark.parametrize(
  ("error", "line"),
  [
    (RunError("Diverged."), "error: Diverged."),
    (Interrupted(2), "stopped"),
    (KeyError("x"), "error: KeyError: 'x'"),
  ],
)
def test_log_ends_with_the_error(tmp_path, error, line):
  with pytest.raises(type(error)), console.log_to(tmp_path / "train.log"):
    raise error
  assert lines(tmp_path / "train.log")[-1] == line


def test_unwritable_log_does_not_end_the_run(tmp_path, capsys):
  (tmp_path / "train.log").mkdir()
  with console.log_to(tmp_path / "train.log"):
    console.print("on")
  assert capsys.readouterr().out.endswith("train.log (Is a directory). This output is not logged.\non\n")
  (tmp_path / "full.log").symlink_to("/dev/full")
  with console.log_to(tmp_path / "full.log"):
    console.print("on")
  assert capsys.readouterr().out == "on\n"


@pytest.mark.parametrize("terminal", [True, False])
def test_spinner_while_compiling_on_a_terminal_only(terminal, tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(console, "_force_terminal", terminal)
  monkeypatch.setattr(console, "is_interactive", terminal)
  with console.log_to(tmp_path / "train.log"), compiling():
    pass
  out = capsys.readouterr().out
  assert "compiling" in out if terminal else out == ""
  assert "compiling" not in (tmp_path / "train.log").read_text()


def test_a_notebook_shows_progress_and_every_line_once(tmp_path, monkeypatch):
  shown, widget = [], MagicMock()
  for name in ("IPython", "IPython.display", "ipywidgets"):
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    monkeypatch.setitem(sys.modules, name, module)
  sys.modules["IPython.display"].display = lambda thing: shown.append(getattr(thing, "text", thing))
  sys.modules["ipywidgets"].Output = lambda: widget
  monkeypatch.setattr(rich.console, "_is_jupyter", lambda: True)  # of the log's console
  monkeypatch.setattr(console, "is_jupyter", True)
  with console.log_to(tmp_path / "train.log"), progress() as bar:
    task = bar.add_task("training", total=2, note="")
    bar.update(task, advance=1)
    console.print("epoch 1")
  assert any("training" in str(text) and "1/2" in str(text) for text in shown)
  assert shown.count("epoch 1\n") == 1
  assert lines(tmp_path / "train.log")[2:] == ["epoch 1"]


def talk(tmp_path: Path, redirection: str) -> str:
  """Returns the report of a process whose output a shell redirected."""
  script, out = tmp_path / "talk.py", tmp_path / "out"
  script.write_text(TALK)
  command = f'set -o pipefail; "{sys.executable}" "{script}" "{out}" {redirection}'
  done = subprocess.run(
    ["bash", "-c", command], env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60
  )
  assert (done.returncode, "Error" in done.stderr, "Exception" in done.stderr) == (0, False, False), done.stderr
  return out.read_text()


@pytest.mark.parametrize(
  "redirection", ["| head -1", "> /dev/full", "> /dev/full 2> /dev/full", ">&-", ">&- 2>&- <&-", "> /dev/null"]
)
def test_closed_or_full_output_does_not_end_a_process(tmp_path, redirection):
  """No opened file takes the number of a closed stream, into which libraries would write."""
  assert talk(tmp_path, redirection) == "True"


def test_unencodable_character_is_escaped():
  code = "from latentjax.runtime.console import protect_stdio; protect_stdio(); print('\\u6f22')"
  environment = os.environ | {"PYTHONIOENCODING": "ascii"}
  done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, timeout=60)
  assert (done.stdout, done.stderr) == (b"\\u6f22\n", b"")


@pytest.mark.parametrize(
  "error",
  [
    MemoryError(),
    RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 8 bytes"),
    RuntimeError("INTERNAL: during compilation: Out of memory allocating 8 bytes"),
  ],
)
def test_out_of_memory_names_the_sizes_to_lower(error):
  message = user_message(error)
  assert isinstance(message, RunError)
  assert "Lower train.batch_size" in str(message)


def test_internal_bug_has_no_user_message():
  assert user_message(RuntimeError("INTERNAL: no such kernel")) is None


def test_refused_path_is_named_without_an_error_number():
  assert str(user_message(PermissionError(13, "Permission denied", "runs"))) == "runs: Permission denied"
  assert str(user_message(FileExistsError(17, "File exists", "a", None, "b"))) == "a and b: File exists"
  assert str(user_message(OSError("odd"))) == "odd"
