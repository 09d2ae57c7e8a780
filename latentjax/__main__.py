"""Entry point of main.py, `python -m latentjax` and the installed `latentjax`."""

import sys

from latentjax.runtime.signals import exit_on_signal


def main() -> None:
  """Runs the command line and exits with its code."""
  exit_on_signal("stopped before anything began")  # first: the imports below take seconds
  try:
    from latentjax.cli.main import main
    from latentjax.runtime.console import protect_stdio

    protect_stdio()
    from latentjax.runtime.console import protect_stdio
  except ModuleNotFoundError as error:
    sys.exit(f"error: {sys.executable} lacks {error.name}: in a clone, `make .venv/ready` and then .venv/bin/python")

  sys.exit(main(sys.argv))


if __name__ == "__main__":
  main()
