"""A measurement's process: started, given so many seconds, and ended with all that it started."""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.accelerator.queue import Measurement, Outcome

REFERS = "for the reason above"  # what a program says at the end that has said before what went wrong
GRACE = 20.0  # seconds from SIGTERM to SIGKILL: a training writes its checkpoint


def run(measurement: Measurement, seconds: float, directory: Path) -> Outcome:
  """Runs a measurement, which leaves NAME.log and NAME.json in the directory.

  Args:
    seconds: after which it is asked to end; it is gone `GRACE` later.
  """
  result, log = (directory / f"{measurement.name}.{kind}" for kind in ("json", "log"))
  result.unlink(missing_ok=True)
  command = [sys.executable, "-m", *measurement.command, f"--json={result}"]
  began = time.monotonic()
  with log.open("w") as file:
    process = subprocess.Popen(
      command,
      stdin=subprocess.DEVNULL,
      stdout=file,
      stderr=subprocess.STDOUT,
      env=os.environ | measurement.environment,
      start_new_session=True,  # a group, to be ended as one
      preexec_fn=end_with_parent,
    )
    try:
      code, ended = wait(process, seconds), False
      if code is None:
        os.killpg(process.pid, signal.SIGTERM)
        code, ended = wait(process, GRACE), True
    finally:
      end(process)
  problem = "" if ended or code == 0 else f"{last_words(log)} ({said(code)})"
  return Outcome(time.monotonic() - began, problem, ended, read(result))


def end_with_parent() -> None:
  """Lets Linux end this process when the one that started it is killed: it would disturb the next call."""
  if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def wait(process: subprocess.Popen, seconds: float) -> int | None:
  """Its exit code, or None if it takes longer."""
  try:
    return process.wait(timeout=max(0.0, seconds))
  except subprocess.TimeoutExpired:
    return None


def end(process: subprocess.Popen) -> None:
  """Kills what is left of the process and of those that it started."""
  with contextlib.suppress(ProcessLookupError):
    os.killpg(process.pid, signal.SIGKILL)
  process.wait()


def said(code: int) -> str:
  return f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"


def last_words(log: Path) -> str:
  """The line of a log that says what went wrong: the last that names an error, or else the last."""
  lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
  errors = [
    line
    for line in lines
    if (line.startswith("error: ") or "Error: " in line or "Unknown flag" in line) and not line.endswith(REFERS)
  ]
  return (errors or lines or ["it said nothing"])[-1][:300]


def read(path: Path) -> dict | None:
  """A result, if there is a whole one."""
  try:
    return json.loads(path.read_text())
  except (OSError, ValueError):
    return None
