"""Records of a run: `config.json`, `results.json` and the provenance of both."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from importlib import metadata
from operator import itemgetter
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from latentjax._version import __version__
from latentjax.config.schema import differences
from latentjax.config.serialization import read_config_json
from latentjax.runtime.errors import RunError, UsageError, unreadable
from latentjax.runtime.fileio import write_atomic
from latentjax.workdir.protocol import SPLITS, TERMS, MetricsRow

FORMAT = 1  # of config.json and model.npz, written into both


def write_config(
  workdir: Path,
  config: ConfigDict,
  image_shape: tuple[int, int, int],
  origin: MetricsRow,
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
    check_same_experiment(workdir, config, ignore)
    check_same_data(workdir, config.data.name, origin["dataset_sha256"])
    origins = read_provenance(workdir)
  if origin not in origins[-1:]:
    origins.append(origin)
  content = {"format": FORMAT, "image_shape": image_shape, **config.to_dict(), "run": origins}
  write_atomic(workdir / "config.json", json.dumps(content, indent=2) + "\n")


def check_same_experiment(workdir: Path, config: ConfigDict, ignore: tuple[str, ...] = ()) -> None:
  """Raises UsageError if a workdir holds another experiment than `config`, apart from the keys to ignore."""
  changed = differences(read_config(workdir), config, ignore)
  if changed:
    shown = "; ".join(changed[:6]) + (f"; and {len(changed) - 6} more" if len(changed) > 6 else "")
    raise UsageError(
      f"{workdir} holds a different experiment ({shown}): drop these changes, or choose another --workdir"
    )


def check_same_data(workdir: Path, name: str, sha256: str) -> None:
  """Raises RunError if images are not those that a workdir was trained on: of others, some of train may be in test.

  Args:
    name: of the data set.
    sha256: as `Dataset.sha256`.
  """
  if read_provenance(workdir)[-1]["dataset_sha256"] != sha256:
    raise RunError(
      f"{name} now has other images than {workdir} was trained on so far: bring them back, or choose another --workdir"
    )


def check_writable(workdir: Path) -> None:
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
  return read_config_json(path)


def read_provenance(workdir: Path) -> list[MetricsRow]:
  """Every `provenance.current` under which a workdir was trained, oldest first.

  Raises:
    RunError: they are damaged.
  """
  return _read_tree(workdir)["run"]


def _read_tree(workdir: Path) -> MetricsRow:
  path = workdir / "config.json"
  try:
    tree = json.loads(path.read_text(encoding="utf-8"))
    check_format(path, tree["format"])
    checked_image_shape(tree["image_shape"])
    _require_keys(tree["run"][-1], ("dataset_sha256",))
    return tree
  except OSError as error:
    raise unreadable(path, error) from None
  except (LookupError, TypeError, ValueError):
    raise RunError(f"{path} is damaged: restore it, or choose another workdir") from None


def _require_keys(values: MetricsRow, keys: Iterable[str]) -> None:
  """Raises KeyError or TypeError if one is missing."""
  itemgetter(*keys)(values)


def checked_image_shape(shape: Sequence[int]) -> tuple[int, int, int]:
  """Returns (H, W, C); raises TypeError or ValueError unless it is that."""
  if not (len(shape) == 3 and all(isinstance(size, int) and size > 0 for size in shape)):
    raise ValueError(f"image_shape is {shape!r}")
  return tuple(shape)


def check_format(path: Path, number: int) -> None:
  """Raises RunError if a file is of a format that this version does not know."""
  if number > FORMAT:
    raise RunError(f"{path} is of format {number}, and this latentjax knows none after {FORMAT}: take a newer one")


def write_results(workdir: Path, results: MetricsRow) -> None:
  write_atomic(workdir / "results.json", json.dumps(results, indent=2) + "\n")


def read_results(workdir: Path) -> MetricsRow | None:
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


REPOSITORY = Path(__file__).resolve().parents[2]

LIBRARIES = ("jax", "jaxlib", "flax", "optax", "numpy")


def current_provenance(dataset_sha256: str) -> dict[str, Any]:
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
      subprocess.run(
        ["git", "-C", str(REPOSITORY), *command], capture_output=True, text=True, check=True, timeout=30
      ).stdout
      for command in commands
    )
    top, commit = located.splitlines()
  except (OSError, subprocess.SubprocessError, ValueError):
    return None
  return {"commit": commit, "dirty": bool(status.strip())} if Path(top) == REPOSITORY else None
