"""The ways a run ends on purpose; `main.py` prints their one line and exits with their code."""


class UsageError(Exception):
  """What was asked for makes no sense: the message says what is wrong and what to do."""

  exit_code = 2


class RunError(Exception):
  """The request was fine but could not be carried out: network, disk, or a loss that diverged."""

  exit_code = 1


class Stopped(BaseException):  # like KeyboardInterrupt: no `except Exception` takes it for a failure
  """A signal asked the run to stop, and it did so without losing anything.

  Args:
    signal: its number, which decides the exit code as shells have it: 130 for Ctrl-C, 143 for SIGTERM.
  """

  def __init__(self, signal: int):
    super().__init__(f"stopped by signal {signal}")
    self.exit_code = 128 + signal
