"""Console output (progress bar, tables), mirrored to `train.log`."""

import datetime
import importlib.util
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

from latentjax.runtime.errors import Interrupted, user_message

STYLE = {"highlight": False, "soft_wrap": True, "markup": False, "emoji": False}


class SafeStream:
  """A text stream that drops its text after the first write error, such as a closed pipe or a full disk."""

  def __init__(self, stream: Any):
    self._stream = stream
    self.failure: OSError | None = None  # that error

  def __getattr__(self, name: str) -> Any:
    return getattr(self._stream, name)

  def write(self, text: str) -> int:
    with self._dropping():
      self._stream.write(text)
    return len(text)

  def flush(self) -> None:
    with self._dropping():
      self._stream.flush()

  @contextmanager
  def _dropping(self) -> Iterator[None]:
    """Redirects the stream to /dev/null after an error, so that later flushes succeed."""
    try:
      yield
    except OSError as error:
      self.failure = self.failure or error
      with open(os.devnull, "w") as null:
        os.dup2(null.fileno(), self._stream.fileno())
      with suppress(OSError):
        self._stream.flush()


def protect_stdio() -> None:
  """Keeps errors of stdout and stderr from ending a run, and escapes characters that they cannot encode."""
  while (number := os.open(os.devnull, os.O_RDWR)) < 3:  # the next opened file would take that of a closed stream
    pass
  os.close(number)
  for name, number in (("stdout", 1), ("stderr", 2)):
    stream = getattr(sys, name) or os.fdopen(number, "w", closefd=False)
    stream.reconfigure(errors="backslashreplace")
    setattr(sys, name, SafeStream(stream))


class LoggingConsole(Console):
  """A Rich console whose output, except the progress bar, is mirrored to a file inside `log_to`."""

  def __init__(self):
    super().__init__(**STYLE)
    self._log: Console | None = None
    self._buffered: list[tuple] | None = None  # output for the head of the next log, inside `buffered`
    if not self.is_terminal:
      self.width = 200  # wide enough for the names of a sweep's runs

  def print(self, *objects: Any, **options: Any) -> None:
    super().print(*objects, **options)
    if objects and isinstance(objects[0], Group):
      return  # the progress bar, which Rich prints in a notebook
    if self._log is not None:
      self._log.print(*objects, **options)
    elif self._buffered is not None:
      self._buffered.append((objects, options))

  @contextmanager
  def buffered(self) -> Iterator[None]:
    """Copies output of this block from before it calls `log_to` to the head of that log."""
    self._buffered = []
    try:
      yield
    finally:
      self._buffered = None

  @contextmanager
  def log_to(self, path: Path) -> Iterator[None]:
    """Appends the command, the output of this block, and its error or interruption to a file, if it can be written."""
    file = None
    try:
      if not self.quiet:  # process 0
        file = path.open("a", encoding="utf-8", errors="backslashreplace")
    except OSError as error:
      self.print(f"Cannot write {path} ({error.strerror}). This output is not logged.")
    if file is None:
      yield
      return
    with file:
      plain = {"color_system": None, "force_terminal": False, "force_jupyter": False}
      self._log = Console(file=SafeStream(file), width=200, **plain, **STYLE)
      self._log.print(f"\n{datetime.datetime.now():%Y-%m-%d %H:%M:%S}  {shlex.join(sys.argv)}")
      for objects, options in self._buffered or ():
        self._log.print(*objects, **options)
      try:
        yield
      except (Interrupted, Exception) as error:
        message = user_message(error) or f"{type(error).__name__}: {error}"
        self._log.print("stopped" if isinstance(error, Interrupted) else f"error: {message}")
        raise
      finally:
        self._log = None


console = LoggingConsole()


class _Progress(Progress):
  """A progress bar that a notebook redraws at every update: a thread of its own would take output from the cell."""

  def update(self, *args: Any, **options: Any) -> None:
    super().update(*args, **options, refresh=self.console.is_jupyter)


def progress() -> Progress:
  """Returns a progress bar with a text field `note`; silent unless the output is a terminal or a notebook's."""
  notebook = console.is_jupyter and importlib.util.find_spec("ipywidgets") is not None
  shown = {"auto_refresh": not notebook, "disable": not (console.is_terminal or notebook)}
  columns = ["{task.description}", BarColumn(), MofNCompleteColumn(), "{task.fields[note]}"]
  columns += [TimeElapsedColumn(), "<", TimeRemainingColumn()]
  return _Progress(*columns, console=console, transient=True, **shown)


def compiling() -> AbstractContextManager:
  """Shows a spinner while functions are traced and compiled; silent unless the output is a terminal."""
  return console.status("compiling") if console.is_terminal else nullcontext()
