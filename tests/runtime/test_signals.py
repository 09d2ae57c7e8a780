"""Signals as they really come: to a process, from outside."""

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
HELD = """
import time
from latentjax.errors import Stopped
from latentjax.interruption import Interruption, stop_at_once
stop_at_once("stopped")
try:
  with Interruption() as interruption:
    with interruption.held():
      print("held", flush=True)
      while not (interruption.asked and RELEASE):
        time.sleep(0.01)
      print("whole", flush=True)
    print("never", flush=True)
except Stopped as stopped:
  raise SystemExit(stopped.exit_code)
"""


def start(release: bool) -> subprocess.Popen:
  command = [sys.executable, "-c", f"RELEASE = {release}\n{HELD}"]
  process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
  assert process.stdout.readline() == "held\n"
  return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_waits_for_what_must_be_done_whole(number, code):
  process = start(release=True)
  process.send_signal(number)
  output, _ = process.communicate(timeout=120)
  assert "whole" in output
  assert "never" not in output
  assert process.returncode == code


def test_only_a_second_ctrl_c_stops_at_once():
  """Not the one that some launchers make of the first."""
  process = start(release=False)
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
  """One of them not before it asks the others, though a signal came; the others without any of their own."""
  with GracefulShutdown(sync=lambda own: own) as shutdown:
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(Interrupted) as first, shutdown.critical_section():
      pass
  other = GracefulShutdown(sync=lambda own: max(own, signal.SIGINT))
  with other, pytest.raises(Interrupted) as second, other.critical_section():
    pass
  assert [first.value.exit_code, second.value.exit_code] == [130, 130]


def test_a_signal_that_comes_while_several_agree_counts_at_the_next_time():
  def sync(own: int) -> int:
    if own == 0:
      os.kill(os.getpid(), signal.SIGTERM)
    return own

  with GracefulShutdown(sync) as shutdown:
    assert [shutdown.requested, shutdown.requested] == [False, True]
    with pytest.raises(Interrupted) as stopped, shutdown.critical_section():
      pass
  assert stopped.value.exit_code == 143


def test_a_signal_after_the_last_block_is_not_lost():
  """Where several agree it waits for `release`; after that signals do what they did before."""
  handlers = [signal.getsignal(number) for number in SIGNALS]
  with GracefulShutdown(sync=lambda own: own) as shutdown:
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Interrupted) as stopped:
      shutdown.disarm()
    assert [signal.getsignal(number) for number in SIGNALS] == handlers
  assert stopped.value.exit_code == 143
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
