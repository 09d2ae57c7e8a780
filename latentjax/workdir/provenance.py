"""Where a run's numbers come from: command, code, libraries, device and data."""

import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from latentjax import __version__

ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = ("jax", "jaxlib", "flax", "optax", "numpy")


def current(dataset_sha256: str) -> dict[str, Any]:
  """What decides a run's numbers besides its config.

  Args:
    dataset_sha256: hash of all images.
  """
  devices = jax.devices()
  return {
    "command": shlex.join(sys.argv),
    "git": git_commit(),
    "python": ".".join(str(part) for part in sys.version_info[:3]),
    "versions": {"latentjax": __version__, **{name: metadata.version(name) for name in LIBRARIES}},
    "device": f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform})",
    "dataset_sha256": dataset_sha256,
  }


def git_commit() -> dict[str, Any] | None:
  """The commit this code is at and whether tracked files differ from it, or None outside its own repository."""
  commands = (["rev-parse", "--show-toplevel", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
  try:
    located, status = (
      subprocess.run(["git", "-C", str(ROOT), *command], capture_output=True, text=True, check=True, timeout=30).stdout
      for command in commands
    )
    top, commit = located.splitlines()
  except (OSError, subprocess.SubprocessError, ValueError):
    return None
  return {"commit": commit, "dirty": bool(status.strip())} if Path(top) == ROOT else None
