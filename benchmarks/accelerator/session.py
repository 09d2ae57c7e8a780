"""Session of measurements in order, with a time limit, signals and resuming."""

import dataclasses
import json
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from latentjax.runtime.errors import last_line
from latentjax.runtime.fileio import dump_json, write_atomic

GRACE = 15.0  # seconds before the time limit, in which a training writes a checkpoint
MAX_ATTEMPTS = 2  # of a measurement in which the process dies
POLL = 0.2  # seconds

Line = dict[str, Any]


class Results:
  """Lines of results.jsonl by name; the last line of a name counts. `again` repeats failed measurements."""

  def __init__(self, path: Path, again: bool = False):
    self.path, self.again, self.on_add = path, again, lambda line: None
    self.lines: dict[str, Line] = {}
    self.current, self.lock = None, threading.RLock()
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    complete = text[: text.rfind("\n") + 1]  # a kill may leave half a line
    if complete != text:
      write_atomic(path, complete)
    for line in map(json.loads, complete.splitlines()):
      if line["status"] == "started" and line["attempt"] >= MAX_ATTEMPTS:
        line |= {"status": "failed", "reason": "the process died"}
      self.lines[line["name"]] = line

  def is_final(self, name: str) -> bool:
    return self.lines.get(name, {}).get("status") in (("measured",) if self.again else ("measured", "failed"))

  def start(self, description: Line) -> None:
    """Records the start, so that a measurement that kills the process is not repeated forever."""
    line = self.lines.get(description["name"], {})
    attempt = line["attempt"] + 1 if line.get("status") == "started" else 1
    self.current, self.started_at = description, time.monotonic()
    self.add("started", attempt=attempt)

  def add(self, status: str, **fields) -> None:
    """Appends a line about the current measurement: started, partial, stopped, failed or measured."""
    with self.lock:
      seconds = round(time.monotonic() - self.started_at, 1)
      earlier = {key: value for key, value in self.lines.get(self.current["name"], {}).items() if key == "result"}
      line = self.current | {"status": status, "seconds": seconds, "reason": ""} | earlier | fields
      self.lines[line["name"]] = line
      with self.path.open("a", encoding="utf-8") as file:
        file.write(dump_json(line, indent=None))
        file.flush()
        os.fsync(file.fileno())
      if status not in ("started", "partial"):
        self.current = None
        self.on_add(line)


class Watchdog:
  """Thread that ends the process at the time limit or on a signal, also during a long compilation.

  While a training runs, its `poll` is called every `POLL` seconds and returns True to stop it. On a signal the training
  has `GRACE` seconds to write a checkpoint.
  """

  def __init__(self, results: Results, deadline: float):
    self.results, self.deadline, self.poll = results, deadline, None
    self._receiver, self._sender = socket.socketpair()
    self._sender.setblocking(False)
    signal.set_wakeup_fd(self._sender.fileno())  # written to at once, whatever the main thread is doing
    for number in (signal.SIGINT, signal.SIGTERM):
      signal.signal(number, lambda *_: None)
    self.thread = threading.Thread(target=self._watch, daemon=True)
    self.thread.start()

  def _watch(self) -> None:
    while True:
      received = self._receiver.recv(1)[0] if select.select([self._receiver], [], [], POLL)[0] else 0
      if received or time.monotonic() > self.deadline - GRACE:
        self._exit(received)
      if self.poll is not None and self.poll():
        self._stop_training()

  def _exit(self, received: int) -> None:
    end = time.monotonic() + GRACE
    while self.poll is not None and time.monotonic() < end:
      self._stop_training()
      time.sleep(POLL)
    with self.results.lock:  # the main thread cannot write half a line
      if self.results.current is not None:
        self.results.add("stopped", reason=f"signal {received}" if received else "the time is over")
      print("Stopped. Run the same command again to continue.", flush=True)
      os._exit(128 + received if received else 0)

  def _stop_training(self) -> None:
    """Calls the signal handler that stops a training after a checkpoint; no signal is sent."""
    signal.getsignal(signal.SIGTERM)(signal.SIGTERM, None)


def run_measurements(
  measurements: Iterable, results: Results, measure: Callable[[Any], Line], seconds_left: Callable[[], float]
) -> bool:
  """Runs missing measurements that are likely to fit into the time left; returns True if none is left."""
  complete = True
  for measurement in (each for each in measurements if not results.is_final(each.name)):
    if seconds_left() < measurement.min_seconds:
      complete = False
      continue
    results.start({"name": measurement.name} | dataclasses.asdict(measurement))
    try:
      result = measure(measurement)
    except (Exception, SystemExit) as error:  # whatever a device or a library cannot do costs one row
      results.add("failed", reason=f"{type(error).__name__}: {last_line(error)}"[:300])
    else:
      results.add("measured", result=result)
  return complete
