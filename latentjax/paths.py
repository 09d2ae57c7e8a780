"""Paths as a person types them."""

import os
from pathlib import Path

from latentjax.errors import UsageError


def expanded(name: str | os.PathLike) -> Path:
  """The path of a name that may begin with ~.

  Raises:
    UsageError: it begins with that of nobody here.
  """
  try:
    return Path(name).expanduser()
  except RuntimeError:
    raise UsageError(f"{name} begins with ~ and the name of nobody here") from None
