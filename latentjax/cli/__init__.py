"""Command line: flags, and one module per command.

Each module's `run` raises UsageError for an invalid request, RunError if it fails, and Interrupted after a signal.
"""
