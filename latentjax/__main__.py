"""Entry point of main.py, `python -m latentjax` and the installed `latentjax`."""

import sys

from latentjax.runtime.errors import last_line
from latentjax.runtime.signals import exit_on_signal


def main() -> None:
  """Runs the command line and exits with its code."""
  exit_on_signal("stopped during startup")  # first, because the imports below take seconds
  try:
    from latentjax.runtime.console import protect_stdio

    protect_stdio()
    from latentjax.cli import main as command_line
  except ModuleNotFoundError as error:
    sys.exit(f"error: {sys.executable} lacks {error.name}. In a clone, run `make .venv/ready`, then .venv/bin/python.")
  except ValueError as error:  # JAX reads its environment variables while it is imported
    print(f"error: JAX cannot start: {last_line(error)}. Correct or unset its variables.", file=sys.stderr)
    sys.exit(2)
  sys.exit(command_line.main(sys.argv))


if __name__ == "__main__":
  main()
