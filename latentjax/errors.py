"""The two ways a run ends on purpose; `main.py` prints their one line and exits with their code."""


class UsageError(Exception):
  """What was asked for makes no sense: the message says what is wrong and what to do."""

  exit_code = 2


class RunError(Exception):
  """The request was fine but could not be carried out: network, disk, or a loss that diverged."""

  exit_code = 1
