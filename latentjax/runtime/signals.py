"""Graceful shutdown: Ctrl-C or SIGTERM stops a run where nothing is lost; a second Ctrl-C stops it immediately."""

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
_cleans_up = False  # inside `cleaning_up`


class GracefulShutdown:
  """Context manager that raises Interrupted at the end of a `critical_section` in which a signal was received.

  Outside critical sections a signal goes to the previous handler; so does a second Ctrl-C inside one, once the running
  compiled call returns. A second SIGTERM is ignored: its sender follows with SIGKILL. Outside the main
  thread, where Python handles no signals, nothing changes.

  If several processes must stop at the same step, `sync` reduces the signal of each, or 0, to that of any. All must
  read `requested` and end critical sections equally often; a signal takes effect at the next time.
  """

  def __init__(self, sync: Callable[[int], int] | None = None):
    self._sync = sync
    self._signal: int | None = None
    self._earlier: dict[int, Any] = {}  # handlers
    self._in_critical_section = False
    self._announced = False  # the user knows that the run will stop
    self._debounced = False  # another Ctrl-C is not a copy of the first

  def __enter__(self) -> "GracefulShutdown":
    from latentjax.runtime.console import console  # here: `exit_on_signal` must not wait for Rich to be imported

    self._console = console
    if threading.current_thread() is threading.main_thread():
      self._earlier = {number: signal.getsignal(number) for number in SIGNALS}  # before one can be received
      for number in SIGNALS:
        signal.signal(number, self._receive)
    return self

  def __exit__(self, *_) -> None:
    for number, handler in self._earlier.items():
      signal.signal(number, handler)
    self._earlier = {}

  @property
  def requested(self) -> bool:
    """True once a signal was received: time to leave the critical section."""
    if self._sync is None:
      return self._signal is not None
    agreed = self._sync(self._signal or 0)
    if agreed:  # else a signal received meanwhile counts the next time
      self._signal = agreed
    return agreed > 0

  @contextmanager
  def critical_section(self) -> Iterator[None]:
    """Delays signals until the end of the block, where Interrupted is raised if one was received."""
    self._in_critical_section = True
    try:
      yield
    finally:
      self._in_critical_section = False
    if self.requested:
      raise Interrupted(self._signal)

  def disarm(self) -> None:
    """Restores the earlier handlers before the context ends; raises Interrupted if a signal is pending."""
    with self.critical_section():
      self.__exit__()

  def _receive(self, number: int, frame: FrameType | None) -> None:
    deferred = self._in_critical_section or self._sync is not None
    if not deferred or (self._debounced and number == signal.SIGINT):
      earlier = self._earlier[number]
      if not callable(earlier):
        raise Interrupted(number)
      earlier(number, frame)
      return
    self._signal = self._signal or number
    if not self._announced:
      self._announced = True
      message = "stopping after the current steps; press Ctrl-C again to stop immediately"
      # In a thread: the signal may have interrupted the main one while it prints.
      threading.Thread(target=self._console.print, args=[message], daemon=True).start()
      time.sleep(0.2)  # launchers that forward Ctrl-C send it twice: the copy arrives meanwhile and is ignored
      self._debounced = True


def exit_on_signal(message: str, discard: Callable[[], None] = lambda: None) -> None:
  """Makes Ctrl-C and SIGTERM call `discard`, print a message and end this process, except in a critical section.

  It raises no exception, which during a compilation might be lost or crash the interpreter, except in `cleaning_up`.
  """

  def stop(number: int, _) -> None:
    if _cleans_up:
      raise Interrupted(number)
    discard()
    with suppress(OSError):  # os.write, because the signal may have interrupted a stream while it writes
      if os.isatty(1):
        os.write(1, b"\033[?25h")  # a progress bar may have hidden the cursor
      os.write(2, f"{message}\n".encode(errors="backslashreplace"))
    os._exit(128 + number)

  for number in SIGNALS:
    signal.signal(number, stop)


@contextmanager
def cleaning_up() -> Iterator[None]:
  """Makes the signals of `exit_on_signal` raise Interrupted in this block, so that it can remove unfinished files."""
  global _cleans_up
  _cleans_up = True
  try:
    yield
  finally:
    _cleans_up = False
