"""Where the command line begins: main.py, `python -m latentjax`, and `latentjax` where the package is installed.

What is imported here takes milliseconds, so that Ctrl-C ends the seconds after it, when all else is, in one line.
"""

import os
import sys

from latentjax.interruption import stop_at_once
from latentjax.streams import keep_standard_streams


def main() -> None:
  """Runs the command line and exits with its code."""
  keep_standard_streams()
  stop_at_once("stopped before anything began")
  if sys.getfilesystemencoding() != "utf-8":  # an old locale: paths and files in UTF-8 would break in many libraries
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
  try:
    from latentjax import command_line
  except ModuleNotFoundError as error:
    sys.exit(f"error: {sys.executable} lacks {error.name}: in a clone, `make .venv/ready` and then .venv/bin/python")

  sys.exit(command_line.main(sys.argv))


if __name__ == "__main__":
  main()
