"""What all of a person's own images share: how they are named in messages, read, and found again in the cache."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from latentjax.console import console
from latentjax.errors import unreadable


def asked(name: str, to_encode: bool) -> str:
  """How a person named these images."""
  return f"--images={name}" if to_encode else f"data.name = {name!r}"


def say_passed_over(said: str, names: Sequence[str]) -> None:
  """Names what lies beside the images that are taken: perhaps a split is misspelt.

  Args:
    said: see `asked`.
  """
  if names:
    console.print(f"{said}: {', '.join(names)} {'is' if len(names) == 1 else 'are'} passed over")


def keyed(name: str, size: int, contents: Iterable[tuple[str, bytes]]) -> str:
  """What the cache calls a set: its last name and a hash of all that it is made from."""
  total = hashlib.sha256(f"{size}".encode())
  for path, content in contents:
    total.update(f"{path}\0{len(content)}\0".encode(errors="surrogateescape"))
    total.update(content)
  return f"{Path(name).stem}-{total.hexdigest()[:16]}"


def read_bytes(path: Path) -> bytes:
  try:
    return path.read_bytes()
  except OSError as error:
    raise unreadable(path, error) from None
