"""Command line: flags, and one module per `--mode`."""
