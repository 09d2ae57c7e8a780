"""The command line: in this process, or in one of its own where the process is what is tested."""

import io
import os
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pytest

from latentjax.cli.main import main
from latentjax.runtime.signals import SIGNALS

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = str(ROOT / "main.py")


class Done(NamedTuple):
  """The end of a command."""

  returncode: int
  stdout: str
  stderr: str


def call(*args: Any, cwd: Path = ROOT, **variables: Any) -> Done:
  """Calls `latentjax.cli.main.main` as main.py would, and restores what it changes of this process."""
  argv, out, err = [PROGRAM, *map(str, args)], io.StringIO(), io.StringIO()
  handlers = {number: signal.getsignal(number) for number in SIGNALS}
  with pytest.MonkeyPatch.context() as patch, mock.patch.dict(os.environ, {k: str(v) for k, v in variables.items()}):
    patch.chdir(cwd)
    patch.setattr(sys, "argv", argv)
    try:
      with redirect_stdout(out), redirect_stderr(err):
        code = main(argv)
    finally:
      for number, handler in handlers.items():
        signal.signal(number, handler)
  return Done(code, out.getvalue(), err.getvalue())


def call_ok(*args: Any, cwd: Path = ROOT, **variables: Any) -> str:
  """Returns what a command that must succeed prints."""
  done = call(*args, cwd=cwd, **variables)
  assert done.returncode == 0, done.stderr
  return done.stdout


def assert_mistake(done: Done | subprocess.CompletedProcess, message: str, code: int = 2) -> None:
  """Asserts that a command ended with one line on standard error, and nothing else."""
  assert (done.returncode, done.stdout) == (code, ""), done.stderr
  assert message in done.stderr, done.stderr
  assert done.stderr.startswith("error: ")
  assert len(done.stderr.splitlines()) == 1


def start(*args: Any, cwd: Path = ROOT, stdout: Any = subprocess.PIPE, **variables: Any) -> subprocess.Popen:
  """Starts main.py under some environment variables; None removes one."""
  environment = {"JAX_PLATFORMS": "cpu"} | os.environ | variables
  environment = {name: str(value) for name, value in environment.items() if value is not None}
  command = [sys.executable, PROGRAM, *map(str, args)]
  pipes = {"stdout": stdout, "stderr": subprocess.PIPE, "encoding": "utf-8"}
  return subprocess.Popen(command, cwd=cwd, env=environment, **pipes)


def run(*args: Any, **options: Any) -> Done:
  """Runs main.py to its end."""
  with start(*args, **options) as process:
    stdout, stderr = process.communicate(timeout=300)
  return Done(process.returncode, stdout, stderr)
