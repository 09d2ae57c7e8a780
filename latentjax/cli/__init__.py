"""Command line: flags, and one module per `--mode`.

Each module's `run` raises UsageError for a wrong request, RunError if it fails and, after a signal, Interrupted.
"""
