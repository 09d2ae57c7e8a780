"""Ctrl-C and SIGTERM: a run stops where nothing is lost, and a second Ctrl-C stops it at once."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from latentjax.runtime.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)

DOUBLED = 0.2  # seconds: launchers that pass Ctrl-C on make two of one, faster than a user does


class GracefulShutdown:
  """Raises Stopped in the main thread at the end of a `held` block in which a signal came. Use as a context manager.

  Outside of such blocks a signal does what it did before, and so does a second Ctrl-C in one: Python handles it once
  the compiled call under way returns, a second or so. A second SIGTERM changes nothing: its sender follows with
  SIGKILL. Outside the main thread, where Python handles no signals, nothing is changed.

  Args:
    agree: for several processes that are one run, and must stop at the same moment: the signal of any of them, or 0,
      from everyone's own. All then ask `asked` and end `held` blocks alike, and a signal waits for the next of these.
  """

  def __init__(self, sync: Callable[[int], int] | None = None):
    self._signal: int | None = None
    self._sync = sync
    self._earlier: dict[int, Any] = {}  # handlers
    self._held = False
    self._announced = False  # to the user, that the run will stop
    self._impatient = False  # whoever presses Ctrl-C now: it is no copy of the first

  def __enter__(self) -> "GracefulShutdown":
    from latentjax.runtime.console import console  # here: `stop_at_once` must not wait for Rich to be imported

    self._console = console
    if threading.current_thread() is threading.main_thread():
      self._earlier = {number: signal.getsignal(number) for number in SIGNALS}
      for number in SIGNALS:
        signal.signal(number, self._receive)
    return self

  def __exit__(self, *_) -> None:
    self._restore()

  def _restore(self) -> None:
    """Lets signals do what they did before."""
    for number, handler in self._earlier.items():
      signal.signal(number, handler)
    self._earlier = {}

  @property
  def requested(self) -> bool:
    """True once a signal has come; inside `held`, the time to leave soon."""
    if self._sync is None:
      return self._signal is not None
    agreed = self._sync(self._signal or 0)
    if agreed:  # else a signal that came meanwhile stays, for the next time
      self._signal = agreed
    return agreed > 0

  @contextmanager
  def critical_section(self) -> Iterator[None]:
    """Delays signals until the end of the block, so that its work is done whole.

    Raises:
      Stopped: at the end of the block, if one came.
    """
    self._held = True
    try:
      yield
    finally:
      self._held = False
    if self.requested:
      raise Interrupted(self._signal)

  def disarm(self) -> None:
    """Ends the context early: there is nothing left to hold, and signals do what they did before it.

    Raises:
      Stopped: one came that no `held` block has seen.
    """
    self._restore()
    if self.requested:
      raise Interrupted(self._signal)

  def _receive(self, number: int, frame: FrameType | None) -> None:
    held = self._held or self._sync is not None
    if not held or (self._impatient and number == signal.SIGINT):
      earlier = self._earlier[number]
      if not callable(earlier):
        raise Interrupted(number)
      earlier(number, frame)
      return
    self._signal = self._signal or number
    if not self._announced:
      self._announced = True
      message = "stopping after the steps under way; Ctrl-C again stops at once"
      # In a thread: the signal may have interrupted the main one while it prints.
      threading.Thread(target=self._console.print, args=[message], daemon=True).start()
      time.sleep(DOUBLED)  # the launcher's copy comes meanwhile, and is ignored
      self._impatient = True


def exit_on_signal(message: str, discard: Callable[[], None] = lambda: None) -> None:
  """Lets Ctrl-C and SIGTERM end this process on the spot, wherever a run does not hold them back.

  An exception in the midst of a compilation would do worse: it may be lost in a callback, or crash the interpreter.

  Args:
    message: the line to print.
    discard: called before.
  """

  def stop(number: int, frame: FrameType | None) -> None:
    del frame
    discard()
    with suppress(OSError):  # not through a stream, whose own writing this may have interrupted
      if os.isatty(1):
        os.write(1, b"\033[?25h")  # a progress bar may have hidden the cursor
      os.write(2, f"{message}\n".encode(errors="backslashreplace"))
    os._exit(128 + number)

  for number in SIGNALS:
    signal.signal(number, stop)
