"""The manifest of a checkpoint: its validation bound, and the SHA-256 of every file in it and of itself."""

import hashlib
import json
from pathlib import Path
from typing import Any

from latentjax.workdir.record import write_whole

NAME = "manifest.json"


def write(directory: Path, bound: float | list[float] | None) -> None:
  """Seals a checkpoint: `verify` tells whether anything in it has changed since.

  Args:
    bound: on validation, a list where there are several seeds, or None in mid-epoch.
  """
  content = {"elbo": bound, "sha256": digests(directory)}  # under the name that it had when there was no other bound
  write_whole(directory / NAME, json.dumps(content | {"seal": seal(content)}, indent=2) + "\n")


def verify(directory: Path) -> float | list[float] | None:
  """The validation bound of a checkpoint as it was written.

  Raises:
    OSError, ValueError: a file is missing, or is not what was written; the message names it.
  """
  try:
    content = json.loads((directory / NAME).read_text(encoding="utf-8"))
    intact = content.pop("seal") == seal(content)
  except FileNotFoundError:
    raise ValueError(f"{NAME} is missing") from None
  except (ValueError, KeyError, TypeError, AttributeError):
    intact = False
  if not intact:
    raise ValueError(f"{NAME} has changed")
  found = digests(directory)
  for name, digest in content["sha256"].items():
    if found.get(name) != digest:
      raise ValueError(f"{name} {'has changed' if name in found else 'is missing'}")
  return content["elbo"]


def digests(directory: Path) -> dict[str, str]:
  """SHA-256 of every file in a checkpoint but its manifest."""
  sums = {}
  for path in sorted(directory.rglob("*")):
    if path.is_file() and path.name != NAME:
      with path.open("rb") as file:
        sums[str(path.relative_to(directory))] = hashlib.file_digest(file, "sha256").hexdigest()
  return sums


def seal(content: dict[str, Any]) -> str:
  return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
