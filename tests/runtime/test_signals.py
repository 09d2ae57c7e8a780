"""Signals sent to a process from outside."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from latentjax.runtime.errors import Interrupted
from latentjax.runtime.signals import SIGNALS, GracefulShutdown

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import time
from latentjax.runtime.errors import Interrupted
from latentjax.runtime.signals import GracefulShutdown, exit_on_signal
exit_on_signal("stopped")
try:
  with GracefulShutdown() as shutdown:
    with shutdown.critical_section():
      print("critical", flush=True)
      while not (shutdown.requested and LEAVE):
        time.sleep(0.01)
      print("whole", flush=True)
    print("never", flush=True)
except Interrupted as interrupted:
  raise SystemExit(interrupted.exit_code)
"""


def start(leave: bool) -> subprocess.Popen:
  command = [sys.executable, "-c", f"LEAVE = {leave}\n{PROGRAM}"]
  process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
  assert process.stdout.readline() == "critical\n"
  return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_waits_for_the_end_of_a_critical_section(number, code):
  process = start(leave=True)
  process.send_signal(number)
  output, _ = process.communicate(timeout=120)
  assert "whole" in output
  assert "never" not in output
  assert process.returncode == code


def test_only_a_second_ctrl_c_stops_at_once():
  """Not the copy of the first that some launchers make."""
  process = start(leave=False)
  for _ in range(2):
    process.send_signal(signal.SIGINT)
    time.sleep(0.02)
  assert process.stdout.readline().startswith("stopping after")
  for _ in range(2):
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
  assert process.poll() is None
  process.send_signal(signal.SIGINT)
  output, _ = process.communicate(timeout=120)
  assert "whole" not in output
  assert process.returncode == 130


def test_several_processes_stop_at_the_same_moment():
  """The process with the signal waits for the others, which stop without a signal of their own."""
  with GracefulShutdown(sync=lambda own: own) as shutdown:
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(Interrupted) as first, shutdown.critical_section():
      pass
  other = GracefulShutdown(sync=lambda own: max(own, signal.SIGINT))
  with other, pytest.raises(Interrupted) as second, other.critical_section():
    pass
  assert [first.value.exit_code, second.value.exit_code] == [130, 130]


def test_signal_during_sync_counts_the_next_time():
  def sync(own: int) -> int:
    if own == 0:
      os.kill(os.getpid(), signal.SIGTERM)
    return own

  with GracefulShutdown(sync) as shutdown:
    assert [shutdown.requested, shutdown.requested] == [False, True]
    with pytest.raises(Interrupted) as interrupted, shutdown.critical_section():
      pass
  assert interrupted.value.exit_code == 143


def test_signal_after_the_last_critical_section_is_not_lost():
  """With `sync` it waits for `disarm`, which restores the earlier handlers."""
  handlers = [signal.getsignal(number) for number in SIGNALS]
  with GracefulShutdown(sync=lambda own: own) as shutdown:
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Interrupted) as interrupted:
      shutdown.disarm()
    assert [signal.getsignal(number) for number in SIGNALS] == handlers
  assert interrupted.value.exit_code == 143
  assert [signal.getsignal(number) for number in SIGNALS] == handlers


def test_outside_the_main_thread_nothing_changes():
  handlers, seen = [signal.getsignal(number) for number in SIGNALS], []

  def work():
    with GracefulShutdown() as shutdown, shutdown.critical_section():
      seen.extend([shutdown.requested, *(signal.getsignal(number) for number in SIGNALS)])

  thread = threading.Thread(target=work)
  thread.start()
  thread.join()
  assert seen == [False, *handlers]
