"""Standard output and error, which may be closed or full: what they cannot take is dropped, and ends nothing."""

import os
import sys
from contextlib import suppress
from typing import Any


class Unfailing:
  """A text stream that drops what it cannot write, from its first failure on: a closed pipe, a full disk.

  Attributes:
    failure: that first one, or None.
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
    """Leads the stream into the void: what it still holds is written there, by Python's last flush too."""
    self.failure = self.failure or failure
    void = os.open(os.devnull, os.O_WRONLY)
    os.dup2(void, self._stream.fileno())
    os.close(void)
    with suppress(OSError):
      self._stream.flush()


def keep_standard_streams() -> None:
  """Makes standard output and error such streams, in which a letter that they do not know is written as its code."""
  for number in range(3):  # a closed one would give its number to the next file that is opened
    try:
      os.fstat(number)
    except OSError:
      os.open(os.devnull, os.O_RDWR)
  for name, number in (("stdout", 1), ("stderr", 2)):
    stream = getattr(sys, name) or os.fdopen(number, "w", closefd=False)
    stream.reconfigure(errors="backslashreplace")
    setattr(sys, name, Unfailing(stream))
