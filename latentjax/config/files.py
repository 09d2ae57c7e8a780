"""Config files: found by name and executed."""

import difflib
import inspect
import runpy
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from latentjax.config.schema import check_keys
from latentjax.config.serialization import read_config_json, to_plain
from latentjax.runtime.errors import UsageError
from latentjax.runtime.fileio import expand_user

PACKAGE = Path(__file__).resolve().parents[1]

# Inside the package if installed, beside it in a clone.
CONFIGS_DIR = next(path for path in (PACKAGE / "configs", PACKAGE.parent / "configs") if path.is_dir())


class ResolvedConfig(NamedTuple):
  """A config with its file, its variant, and the docstrings of the file's variants, if it has any."""

  config: ConfigDict
  path: Path
  variant: str | None = None
  variants: Mapping[str, str] = {}

  @property
  def shown(self) -> str:
    """The file as `--config` accepts it from any directory, if it is one of this project's."""
    return self.path.stem if self.path.resolve().parent == CONFIGS_DIR.resolve() else str(self.path)


def select_variant(variants: Mapping[str, Callable[[], ConfigDict]], name: str) -> ConfigDict:
  """Returns the config of a variant; raises UsageError if there is no such variant."""
  if name not in variants:
    raise UsageError(f"Unknown variant {name!r}. Choose one of {', '.join(variants)}.")
  return variants[name]()


def load_config(name: str) -> ResolvedConfig:
  """Loads the config named `FILE` or `FILE:VARIANT`, or that of a run from its config.json; FILE may have colons.

  Raises:
    UsageError: The file does not exist, or does not define a config.
    RunError: A config.json is damaged.
  """
  file, variant = _split_variant(name)
  path = _find_config_file(file)
  if path.suffix == ".json":
    return ResolvedConfig(read_config_json(path), path)
  with config_file_errors(path, name):
    names = run_config_file(path)
    make = names.get("get_config")
    if not callable(make):
      raise UsageError(f"{path} has no get_config(). Define one that returns a ConfigDict.")
    defaults = [parameter.default for parameter in inspect.signature(make).parameters.values()]
    if variant and not defaults:
      raise UsageError(f"{path} has no variants: its get_config() takes no argument. Drop :{variant}.")
    config = make(variant) if variant else make()
    if not isinstance(config, ConfigDict):
      raise UsageError(f"get_config() in {path} returns {type(config).__name__}. Return an ml_collections.ConfigDict.")
    config = plain_config(config)
    default = next((default for default in defaults if isinstance(default, str)), None)
    functions = names.get("VARIANTS")
    functions = functions if isinstance(functions, Mapping) else {}
    variants = {name: inspect.getdoc(function) or "" for name, function in functions.items()}
  return ResolvedConfig(config, path, variant or default, variants)


def plain_config(config: ConfigDict) -> ConfigDict:
  """Returns a copy of a config with plain values, not frozen; raises UsageError for a missing or unknown key."""
  plain = ConfigDict(to_plain(ConfigDict(config).copy_and_resolve_references().to_dict()))
  check_keys(plain)
  return plain


def _split_variant(name: str) -> tuple[str, str]:
  """Splits FILE:VARIANT at the last colon, unless it belongs to the path of the file."""
  file, _, variant = name.rpartition(":")
  is_path = not file or "/" in variant or any(path.is_file() for path in _candidates(name))
  return (name, "") if is_path else (file, variant)


def _find_config_file(name: str) -> Path:
  """Returns the file of a name such as vae, vae.py or configs/vae.py, in the working directory or of this project."""
  for path in _candidates(name):
    if path.is_file():
      return path
  if (expand_user(name) / "config.json").is_file():
    raise UsageError(f"--config={name} is the workdir of a run. Use --workdir={name}, or --config={name}/config.json.")
  known = sorted(path.stem for path in CONFIGS_DIR.glob("*.py"))
  near = difflib.get_close_matches(name, known, n=1)
  advice = f"Did you mean {near[0]}?" if near else f"Choose one of {', '.join(known)}, or write your own."
  raise UsageError(f"--config={name}: no such file. {advice}")


def _candidates(name: str) -> tuple[Path, ...]:
  return expand_user(name), CONFIGS_DIR.parent / name, CONFIGS_DIR / name, CONFIGS_DIR / f"{name}.py"


def run_config_file(path: Path) -> dict[str, Any]:
  """Executes a config file, which may import this project's as `configs`, and returns its global names."""
  if "configs" not in sys.modules:
    sys.modules["configs"] = ModuleType("configs")
    sys.modules["configs"].__path__ = [str(CONFIGS_DIR)]
  return runpy.run_path(str(path), run_name="config_file")


@contextmanager
def config_file_errors(path: Path, name: str) -> Iterator[None]:
  """Turns any error of the config file `--config=name`, even SystemExit, into a UsageError that names the line."""
  try:
    yield
  except UsageError as error:
    raise UsageError(f"--config={name}: {error}") from None
  except (Exception, SystemExit) as error:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path]
    text = str(error)
    if isinstance(error, SyntaxError):
      lines, text = [error.lineno], error.msg
    text = " ".join(f"{type(error).__name__}: {text}".split()).removesuffix(":")
    raise UsageError(f"--config={name}: {text} ({path}{f', line {lines[-1]}' if lines else ''})") from None
