"""Arrays from an .npz that anybody may have written: nothing in it is executed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from latentjax.errors import RunError, unreadable


@contextmanager
def opened(path: Path, damaged: Callable[[str], RunError]) -> Iterator[np.lib.npyio.NpzFile]:
  """The file for a block that does nothing but take arrays from it.

  Args:
    damaged: what to raise of a file that is none or damaged, by the kind of error, whose own words say nothing to a
      person or recommend to unpickle.

  Raises:
    RunError: it cannot be read.
  """
  try:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
      yield arrays
  except MemoryError:
    raise
  except OSError as error:
    raise unreadable(path, error) from None
  except Exception as error:  # zip, zlib and numpy each have their own for a damaged file
    raise damaged(type(error).__name__) from None
