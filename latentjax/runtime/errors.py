"""Errors that end a run: the command line prints their message and exits with their code."""

import os
import re
import textwrap
from pathlib import Path


class UsageError(Exception):
  """An invalid request."""

  exit_code = 2


class RunError(Exception):
  """A valid request that failed: network, disk, or a diverged loss."""

  exit_code = 1


class Interrupted(BaseException):  # like KeyboardInterrupt: `except Exception` does not catch it
  """A stop by a signal, without loss. The exit code is that of a shell: 130 after Ctrl-C, 143 after SIGTERM."""

  def __init__(self, signal: int):
    super().__init__(f"stopped by signal {signal}")
    self.exit_code = 128 + signal


def unreadable(path: Path, error: OSError) -> RunError:
  """Returns the error for a file that cannot be read, though it may be intact."""
  return RunError(f"Cannot read {path} ({error.strerror or error}). Check the path and its permissions.")


def damaged(path: Path | str, advice: str, reason: str = "") -> RunError:
  """Returns the error for a damaged file; `advice` is a sentence without its period."""
  return RunError(f"{path} is damaged{f' ({reason})' if reason else ''}. {advice}.")


def error_reason(error: Exception) -> str:
  """Returns one line: the operating system's message if the error carries one."""
  if number := re.search(r"os_error_code='(\d+)'", str(error)):  # TensorStore puts it at the end of a long text
    return os.strerror(int(number[1]))
  return getattr(error, "strerror", None) or textwrap.shorten(f"{type(error).__name__}: {error}", 160)


def last_line(error: Exception) -> str:
  """Returns the last line of an error's text: some libraries put a traceback before it."""
  text = str(error).strip() or type(error).__name__
  line = text.splitlines()[-1].strip().removeprefix("ValueError: ")
  return line.removeprefix("Configuration is not available because of an earlier failure to load: ")


def user_message(error: Exception) -> UsageError | RunError | None:
  """Returns a user-facing error, or None for an internal bug."""
  if isinstance(error, UsageError | RunError):
    return error
  if isinstance(error, OSError):
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    return RunError(": ".join([" and ".join(names), error.strerror] if names and error.strerror else [str(error)]))
  xla_messages = ("RESOURCE_EXHAUSTED", "Out of memory")  # on accelerators and on CPUs
  exhausted = isinstance(error, RuntimeError) and any(message in str(error) for message in xla_messages)
  if isinstance(error, MemoryError) or exhausted:
    return RunError("Out of memory. Lower train.batch_size, eval.batch_size, train.num_seeds or the model's sizes.")
  return None
