"""Records of a run: config.json with its provenance, and results.json."""

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
from latentjax.config.serialization import read_config_json
from latentjax.runtime.errors import RunError, UsageError, damaged, unreadable
from latentjax.runtime.fileio import dump_json, load_json, write_atomic
from latentjax.workdir.protocol import SPLITS, TERMS, MetricsRow

FORMAT = 1  # of config.json and of weights files, written into both
REPOSITORY = Path(__file__).resolve().parents[2]
LIBRARIES = ("jax", "jaxlib", "flax", "optax", "numpy")


def write_config(
  workdir: Path,
  config: ConfigDict,
  image_shape: tuple[int, int, int],
  provenance: MetricsRow,
  earlier: Sequence[MetricsRow] = (),
) -> None:
  """Writes config.json; `provenance` is added to that of earlier commands unless it equals the last one."""
  history = [*earlier, *([provenance] if provenance not in earlier[-1:] else [])]
  content = {"format": FORMAT, "image_shape": image_shape, **config.to_dict(), "run": history}
  write_atomic(workdir / "config.json", dump_json(content))


def read_config(workdir: Path) -> ConfigDict:
  """Returns the config of a run; raises UsageError if there is none, RunError if it is damaged or of a later format."""
  if not (workdir / "config.json").exists():
    raise UsageError(f"{workdir} has no config.json. Give the --workdir of a run that `latentjax train` has started.")
  read_provenance(workdir)  # checks the format first
  return read_config_json(workdir / "config.json")


def read_provenance(workdir: Path) -> list[MetricsRow]:
  """Returns every `current_provenance` under which a run was trained, oldest first; raises like `read_config`."""
  path = workdir / "config.json"
  try:
    content = load_json(path.read_bytes())
    check_format(path, content["format"])
    require_keys(content, ("image_shape", "run"))
    require_keys(content["run"][-1], ("dataset_sha256",))
    return content["run"]
  except OSError as error:
    raise unreadable(path, error) from None
  except (LookupError, TypeError, ValueError):
    raise damaged(path, "Restore it, or choose another --workdir") from None


def require_keys(values: MetricsRow, keys: Iterable[str]) -> None:
  """Raises KeyError or TypeError if one is missing."""
  itemgetter(*keys)(values)


def check_format(path: Path, number: int) -> None:
  """Raises RunError if a file has a later format than this version reads."""
  if number > FORMAT:
    raise RunError(f"{path} has format {number}, and this version of latentjax reads up to {FORMAT}. Update latentjax.")


def write_results(workdir: Path, results: MetricsRow) -> None:
  write_atomic(workdir / "results.json", dump_json(results))


def read_results(workdir: Path) -> MetricsRow | None:
  """Returns the content of results.json, or None before the evaluation; raises RunError if it is damaged."""
  path = workdir / "results.json"
  if not path.exists():
    return None
  try:
    results = load_json(path.read_bytes())
    for split in SPLITS:
      require_keys(results[split], TERMS)
    return results
  except (LookupError, TypeError, ValueError):
    raise damaged(path, "Restore it, or delete it and run `latentjax evaluate`") from None


def current_provenance(dataset_sha256: str) -> dict[str, Any]:
  """Returns everything besides the config that determines a run's numbers."""
  devices = jax.devices()
  return {
    "command": shlex.join(sys.argv),
    "git": git_commit(),
    "python": ".".join(map(str, sys.version_info[:3])),
    "versions": {"latentjax": __version__, **{name: metadata.version(name) for name in LIBRARIES}},
    "environment": {name: os.environ[name] for name in sorted(os.environ) if _changes_numbers(name)},
    "device": f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform})",
    "dataset_sha256": dataset_sha256,
  }


def _changes_numbers(name: str) -> bool:
  """Returns True if an environment variable may change the rounding of JAX's results."""
  return name.startswith(("JAX_", "XLA_", "LIBTPU_", "NVIDIA_TF32")) and "CACHE" not in name


def git_commit() -> dict[str, Any] | None:
  """Returns the commit of this code and whether tracked files differ from it, or None outside its repository."""

  def git(*command: str) -> str:
    command = ["git", "-C", str(REPOSITORY), *command]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout

  try:
    top, commit = git("rev-parse", "--show-toplevel", "HEAD").splitlines()
    dirty = bool(git("status", "--porcelain", "--untracked-files=no").strip())
  except (OSError, subprocess.SubprocessError, ValueError):
    return None
  return {"commit": commit, "dirty": dirty} if Path(top) == REPOSITORY else None
