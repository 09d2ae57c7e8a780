"""Console output (progress bar, tables), mirrored to `train.log`."""

import datetime
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from latentjax.runtime.errors import Interrupted, user_message

STYLE = {"highlight": False, "soft_wrap": True, "markup": False, "emoji": False}


class SafeStream:
  """A text stream that ignores write errors: after the first, such as a closed pipe or a full disk, it drops its text.

  Attributes:
    failure: the first error, or None.
  """

  def __init__(self, stream: Any):
    self._stream = stream
    self.failure: OSError | None = None

  def __getattr__(self, name: str) -> Any:
    return getattr(self._stream, name)

  def write(self, text: str) -> int:
    try:
      self._stream.write(text)
    except OSError as error:
      self._drop(error)
    return len(text)

  def flush(self) -> None:
    try:
      self._stream.flush()
    except OSError as error:
      self._drop(error)

  def _drop(self, failure: OSError) -> None:
    """Redirects the stream to /dev/null so that later flushes succeed."""
    self.failure = self.failure or failure
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, self._stream.fileno())
    os.close(null)
    with suppress(OSError):
      self._stream.flush()


def protect_stdio() -> None:
  """Wraps stdout and stderr so that neither can end a run; characters they cannot encode are escaped."""
  for number in range(3):  # the next opened file would take the number of a closed one
    try:
      os.fstat(number)
    except OSError:
      os.open(os.devnull, os.O_RDWR)
  for name, number in (("stdout", 1), ("stderr", 2)):
    stream = getattr(sys, name) or os.fdopen(number, "w", closefd=False)
    stream.reconfigure(errors="backslashreplace")
    setattr(sys, name, SafeStream(stream))


class LoggingConsole(Console):
  """A Rich console whose output, but for the progress bar, is mirrored to a file inside `log_to`."""

  def __init__(self):
    super().__init__(**STYLE)
    self._log: Console | None = None
    self._buffered: list[tuple] | None = None  # output for the head of the next log, inside `buffered`
    if not self.is_terminal:
      self.width = 200  # room for the names of a sweep's runs

  def print(self, *objects: Any, **options: Any) -> None:
    super().print(*objects, **options)
    if self._log is not None:
      self._log.print(*objects, **options)
    elif self._buffered is not None:
      self._buffered.append((objects, options))

  @contextmanager
  def buffered(self) -> Iterator[None]:
    """Copies what this block prints before it calls `log_to` to the head of that log."""
    self._buffered = []
    try:
      yield
    finally:
      self._buffered = None

  @contextmanager
  def log_to(self, path: Path) -> Iterator[None]:
    """Appends the command, the output of this block, and its error or interruption to a file.

    A file that cannot be written does not end the run. Of several processes only process 0 writes.
    """
    if self.quiet:
      yield
      return
    try:
      file = path.open("a", encoding="utf-8", errors="backslashreplace")
    except OSError as error:
      self.print(f"Cannot write {path} ({error.strerror}). This output is not logged.")
      yield
      return
    with file:
      self._log = Console(file=SafeStream(file), width=200, color_system=None, force_terminal=False, **STYLE)
      self._log.print(f"\n{datetime.datetime.now():%Y-%m-%d %H:%M:%S}  {shlex.join(sys.argv)}")
      for objects, options in self._buffered or ():
        self._log.print(*objects, **options)
      try:
        yield
      except Interrupted:
        self._log.print("stopped")
        raise
      except Exception as error:
        self._log.print(f"error: {user_message(error) or f'{type(error).__name__}: {error}'}")
        raise
      finally:
        self._log = None


console = LoggingConsole()


def progress() -> Progress:
  """Returns a progress bar with a text field `note`; silent unless the output is a terminal."""
  return Progress(
    TextColumn("{task.description}"),
    BarColumn(),
    MofNCompleteColumn(),
    TextColumn("{task.fields[note]}"),
    TimeElapsedColumn(),
    TextColumn("<"),
    TimeRemainingColumn(),
    console=console,
    transient=True,
    disable=not console.is_terminal,
  )


def compiling() -> AbstractContextManager:
  """Shows a spinner while functions are traced and compiled; silent unless the output is a terminal."""
  return console.status("compiling") if console.is_terminal else nullcontext()
