"""The written record of a run: config.json, results.json, and the reading of metrics.jsonl."""

import json
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO

from ml_collections import ConfigDict

from latentjax import config as configs
from latentjax import config_json
from latentjax.console import console
from latentjax.errors import RunError, UsageError, unreadable
from latentjax.workdir.figures import SPLITS, TERMS

Line = dict[str, Any]

FORMAT = 1  # of config.json and model.npz, written into both


def write_config(
  workdir: Path,
  config: ConfigDict,
  image_shape: tuple[int, int, int],
  origin: Line,
  ignore: tuple[str, ...] = (),
) -> None:
  """Writes config.json in an existing directory, or adds to it if it is of the same experiment and data.

  Args:
    image_shape: (H, W, C): what a model needs to know of its data.
    origin: as `provenance.current` returns it; config.json lists every one that differs from the one before it.
    ignore: keys that may differ, besides those that always may.

  Raises:
    UsageError: it holds a different experiment; nothing is changed.
    RunError: it cannot be written, or its data are not those that it began with.
  """
  origins = []
  if (workdir / "config.json").exists():
    require_same(workdir, config, ignore)
    require_same_images(workdir, config.data.name, origin["dataset_sha256"])
    origins = read_origins(workdir)
  if origin not in origins[-1:]:
    origins.append(origin)
  content = {"format": FORMAT, "image_shape": image_shape, **config.to_dict(), "run": origins}
  write_whole(workdir / "config.json", json.dumps(content, indent=2) + "\n")


def require_same(workdir: Path, config: ConfigDict, ignore: tuple[str, ...] = ()) -> None:
  """Raises UsageError if a workdir holds another experiment than `config`, apart from the keys to ignore."""
  changed = configs.differences(read_config(workdir), config, ignore)
  if changed:
    shown = "; ".join(changed[:6]) + (f"; and {len(changed) - 6} more" if len(changed) > 6 else "")
    raise UsageError(
      f"{workdir} holds a different experiment ({shown}): drop these changes, or choose another --workdir"
    )


def require_same_images(workdir: Path, name: str, sha256: str) -> None:
  """Raises RunError if images are not those that a workdir was trained on: of others, some of train may be in test.

  Args:
    name: of the data set.
    sha256: as `Dataset.sha256`.
  """
  if read_origins(workdir)[-1]["dataset_sha256"] != sha256:
    raise RunError(
      f"{name} now has other images than {workdir} was trained on so far: bring them back, or choose another --workdir"
    )


def require_writable(workdir: Path) -> None:
  """Raises RunError if nothing can be written in a workdir: what takes long to compute asks before, not after."""
  if not os.access(workdir, os.W_OK):
    raise RunError(f"cannot write to {workdir}: its permissions, or its disk, are for reading only")


def read_config(workdir: Path) -> ConfigDict:
  """The config of a run's workdir.

  Raises:
    UsageError: there is none.
    RunError: it is damaged, or of a later format.
  """
  path = workdir / "config.json"
  if not path.exists():
    raise UsageError(f"{workdir} has no config.json: give the --workdir of a run that --mode=train has started")
  _read_tree(workdir)
  return config_json.read(path)


def read_origins(workdir: Path) -> list[Line]:
  """Every `provenance.current` under which a workdir was trained, oldest first.

  Raises:
    RunError: they are damaged.
  """
  return _read_tree(workdir)["run"]


def _read_tree(workdir: Path) -> Line:
  path = workdir / "config.json"
  try:
    tree = json.loads(path.read_text(encoding="utf-8"))
    require_format(path, tree["format"])
    checked_image_shape(tree["image_shape"])
    _require_keys(tree["run"][-1], ("dataset_sha256",))
    return tree
  except OSError as error:
    raise unreadable(path, error) from None
  except (LookupError, TypeError, ValueError):
    raise RunError(f"{path} is damaged: restore it, or choose another workdir") from None


def _require_keys(values: Line, keys: Iterable[str]) -> None:
  """Raises KeyError or TypeError if one is missing."""
  itemgetter(*keys)(values)


def checked_image_shape(shape: Sequence[int]) -> tuple[int, int, int]:
  """Returns (H, W, C); raises TypeError or ValueError unless it is that."""
  if not (len(shape) == 3 and all(isinstance(size, int) and size > 0 for size in shape)):
    raise ValueError(f"image_shape is {shape!r}")
  return tuple(shape)


def require_format(path: Path, number: int) -> None:
  """Raises RunError if a file is of a format that this version does not know."""
  if number > FORMAT:
    raise RunError(f"{path} is of format {number}, and this latentjax knows none after {FORMAT}: take a newer one")


def write_results(workdir: Path, results: Line) -> None:
  write_whole(workdir / "results.json", json.dumps(results, indent=2) + "\n")


def read_results(workdir: Path) -> Line | None:
  """What `write_results` wrote, or None if the run has not come so far.

  Raises:
    RunError: it is damaged.
  """
  path = workdir / "results.json"
  if not path.exists():
    return None
  try:
    results = json.loads(path.read_text(encoding="utf-8"))
    for split in SPLITS:
      _require_keys(results[split], TERMS)
    return results
  except (LookupError, TypeError, ValueError):
    raise RunError(f"{path} is damaged: restore it, or delete it and run --mode=evaluate") from None


def read_lines(workdir: Path) -> list[Line]:
  """All lines of metrics.jsonl: one per epoch, from the first on.

  Raises:
    RunError: a line is damaged; half a last line is what a killed run leaves, and is reported and left out.
  """
  path = workdir / "metrics.jsonl"
  texts = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True) if path.exists() else []
  lines = []
  for number, text in enumerate(texts, start=1):
    try:
      line = json.loads(text)
      _require_keys(line, ("step", "seconds", "images_per_second"))
      for split in ("train", "validation"):
        _require_keys(line[split], TERMS)
      if line["epoch"] != number:
        raise ValueError
      lines.append(line)
    except (LookupError, TypeError, ValueError) as error:
      if isinstance(error, json.JSONDecodeError) and number == len(texts) and not text.endswith("\n"):
        console.print(f"line {number} of {path}, its last, is cut short: it is left out")
        break
      raise RunError(f"line {number} of {path} is damaged: restore it, or choose another workdir") from None
  return lines


def write_whole(path: Path, content: str | bytes | Callable[[BinaryIO], None]) -> None:
  """Writes a file whole or not at all.

  Args:
    content: or what writes it, for what is too large to have twice in memory.

  Raises:
    RunError: the disk refuses.
  """
  unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")  # two processes may be at it
  try:
    with unfinished.open("wb") as file:
      if callable(content):
        content(file)
      else:
        file.write(content.encode() if isinstance(content, str) else content)
      file.flush()
      os.fsync(file.fileno())
    unfinished.replace(path)
  except OSError as error:
    with suppress(OSError):
      unfinished.unlink(missing_ok=True)
    raise RunError(f"cannot write {path} ({error.strerror})") from None
