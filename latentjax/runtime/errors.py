"""The ways a run ends on purpose; the command line prints one line of them and exits with their code."""

from pathlib import Path

OUT_OF_MEMORY = ("RESOURCE_EXHAUSTED", "Out of memory")  # as XLA says it on accelerators, and on a CPU


class UsageError(Exception):
  """What was asked for makes no sense: the message says what is wrong and what to do."""

  exit_code = 2


class RunError(Exception):
  """The request was fine but could not be carried out: network, disk, or a loss that diverged."""

  exit_code = 1


class Interrupted(BaseException):  # like KeyboardInterrupt: no `except Exception` takes it for a failure
  """A signal asked the run to stop, and it did so without losing anything.

  Args:
    signal: its number, which decides the exit code as shells have it: 130 for Ctrl-C, 143 for SIGTERM.
  """

  def __init__(self, signal: int):
    super().__init__(f"stopped by signal {signal}")
    self.exit_code = 128 + signal


def unreadable(path: Path, error: OSError) -> RunError:
  """What to raise where a file is perhaps not damaged but may not, or cannot at this moment, be read."""
  return RunError(f"cannot read {path} ({error.strerror or error})")


def last_line(error: Exception) -> str:
  """What an error has to say, without the traceback that some libraries put before it."""
  text = str(error).strip() or type(error).__name__
  line = text.splitlines()[-1].strip().removeprefix("ValueError: ")
  return line.removeprefix("Configuration is not available because of an earlier failure to load: ")


def user_message(error: Exception) -> UsageError | RunError | None:
  """What to tell a person of an error that ended the run, or None where it is a mistake of this program."""
  if isinstance(error, UsageError | RunError):
    return error
  if isinstance(error, OSError):  # a disk or a path that refuses
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    return RunError(": ".join([" and ".join(names), error.strerror] if names and error.strerror else [str(error)]))
  exhausted = isinstance(error, RuntimeError) and any(said in str(error) for said in OUT_OF_MEMORY)
  if isinstance(error, MemoryError) or exhausted:
    return RunError("out of memory: lower train.batch_size, eval.batch_size, train.num_seeds or the model's sizes")
  return None
