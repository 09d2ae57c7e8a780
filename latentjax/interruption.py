"""Ctrl-C and SIGTERM: a run stops where it loses nothing, and a second Ctrl-C stops it at once."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from latentjax.errors import Stopped

SIGNALS = (signal.SIGINT, signal.SIGTERM)
IMPATIENT = 0.2  # seconds: launchers that pass Ctrl-C on make two of one, faster than a person does


class Interruption:
  """Raises Stopped in the main thread at the end of a `held` block in which a signal came. Use as a context manager.

  Outside of such blocks a signal does what it did before: there is nothing to lose there. A thread reads the signals
  beside Python's own handlers, which run only between two bytecodes: a second Ctrl-C must not wait for the compiled
  call that the main thread is in. A second SIGTERM changes nothing: who sends it follows with SIGKILL. Outside the
  main thread, where Python handles no signals, nothing is changed.

  Args:
    agree: for several processes that are one run, and must stop at the same moment: the signal of any of them, or 0,
      from everyone's own. All then ask `asked` and end `held` blocks alike, and a signal waits for the next of these.
  """

  def __init__(self, agree: Callable[[int], int] | None = None):
    self._signal: int | None = None
    self._agree = agree
    self._held = False

  def __enter__(self) -> "Interruption":
    from latentjax.console import console  # here, for `stop_at_once` must not wait for what the console imports

    self._console = console
    self._active = threading.current_thread() is threading.main_thread()
    if self._active:
      reader, self._writer = os.pipe()
      os.set_blocking(self._writer, False)
      threading.Thread(target=self._watch, args=(reader,), daemon=True).start()
      self._handlers = {number: signal.signal(number, self._receive) for number in SIGNALS}
      self._wakeup = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
    return self

  def __exit__(self, *_) -> None:
    self._restore()

  def _restore(self) -> None:
    """Lets signals do what they did before."""
    if self._active:
      self._active = False
      signal.set_wakeup_fd(self._wakeup)
      for number, handler in self._handlers.items():
        signal.signal(number, handler)
      os.close(self._writer)  # which ends the thread

  @property
  def asked(self) -> bool:
    """Whether a signal has come; inside `held`, the time to leave soon."""
    if self._agree is None:
      return self._signal is not None
    agreed = self._agree(self._signal or 0)
    if agreed:  # else a signal that came meanwhile stays, for the next time
      self._signal = agreed
    return agreed > 0

  @contextmanager
  def held(self) -> Iterator[None]:
    """Signals wait until the end of the block: what it does is done whole.

    Raises:
      Stopped: at the end of the block, if one came.
    """
    self._held = True
    try:
      yield
    finally:
      self._held = False
    if self.asked:
      raise Stopped(self._signal)

  def release(self) -> None:
    """Ends the context early: there is nothing left to hold, and signals do what they did before it.

    Raises:
      Stopped: one came that no `held` block has seen.
    """
    self._restore()
    if self.asked:
      raise Stopped(self._signal)

  def _receive(self, number: int, frame: FrameType | None) -> None:
    if self._held or self._agree is not None:
      self._signal = self._signal or number
    elif callable(earlier := self._handlers[number]):
      earlier(number, frame)
    else:
      raise Stopped(number)

  def _watch(self, reader: int) -> None:
    """Reads the number of each signal as it comes, until the pipe is closed."""
    first = None
    while byte := os.read(reader, 1):
      if byte[0] not in SIGNALS:
        continue
      if first is None:
        first = time.monotonic()
        if self._held or self._agree is not None:
          self._console.print("stopping after the steps under way; Ctrl-C once more stops at once")
      elif byte[0] == signal.SIGINT and time.monotonic() - first > IMPATIENT:
        if self._console.is_terminal:
          os.write(1, b"\033[?25h")  # the progress bar had hidden the cursor
        os._exit(128 + signal.SIGINT)
    os.close(reader)


def stop_at_once(message: str, discard: Callable[[], None] = lambda: None) -> None:
  """Lets Ctrl-C and SIGTERM end this process on the spot, wherever a run does not hold them back.

  An exception in the midst of a compilation would do worse: it may be lost in a callback, or crash the interpreter.

  Args:
    message: the line to say.
    discard: called before.
  """

  def stop(number: int, frame: FrameType | None) -> None:
    del frame
    discard()
    with suppress(OSError):
      if sys.stdout.isatty():
        os.write(1, b"\033[?25h")  # a progress bar may have hidden the cursor
      os.write(
        2, f"{message}\n".encode(errors="backslashreplace")
      )  # not through a stream, whose own writing this may have interrupted
    os._exit(128 + number)

  for number in SIGNALS:
    signal.signal(number, stop)
