"""Entry point of main.py, `python -m latentjax` and the installed `latentjax`."""

import sys

from latentjax.interruption import stop_at_once


def main() -> None:
  """Runs the command line and exits with its code."""
  stop_at_once("stopped before anything began")  # first: the imports below take seconds
  try:
    from latentjax.console import protect_stdio

    protect_stdio()
    from latentjax import command_line
  except ModuleNotFoundError as error:
    sys.exit(f"error: {sys.executable} lacks {error.name}: in a clone, `make .venv/ready` and then .venv/bin/python")

  sys.exit(command_line.main(sys.argv))


if __name__ == "__main__":
  main()
