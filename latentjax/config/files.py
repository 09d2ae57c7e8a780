"""Config files: found by name and executed."""

import importlib.machinery
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from latentjax.config.schema import check_keys
from latentjax.config.serialization import lists_to_tuples, read_config_json
from latentjax.runtime.errors import UsageError
from latentjax.runtime.fileio import expand_user

PACKAGE = Path(__file__).resolve().parents[1]

# Inside the package if installed, beside it in a clone.
CONFIGS_DIR = next(path for path in (PACKAGE / "configs", PACKAGE.parent / "configs") if path.is_dir())


class ResolvedConfig(NamedTuple):
  """A config and its file.

  Attributes:
    variant: None if the file has no variants.
    variants: All variants of the file with their docstrings; empty if unknown.
  """

  config: ConfigDict
  path: Path
  variant: str | None
  variants: dict[str, str]

  @property
  def shown(self) -> str:
    """The file as `--config` accepts it from any directory, if it is one of this project's."""
    return f"configs/{self.path.name}" if self.path.resolve().parent == CONFIGS_DIR.resolve() else str(self.path)


def select_variant(variants: Mapping[str, Callable[[], ConfigDict]], name: str) -> ConfigDict:
  """Returns the config of a variant.

  Raises:
    ValueError: There is no such variant.
  """
  if name not in variants:
    raise ValueError(f"Unknown variant {name!r}. Choose one of {', '.join(variants)}.")
  return variants[name]()


def load_config(name: str) -> ResolvedConfig:
  """Loads the config named `FILE` or `FILE:VARIANT`, or that of a run from its config.json.

  Raises:
    UsageError: There is no such file, or executing it gives no config.
    RunError: A config.json is damaged.
  """
  file, _, variant = name.partition(":")
  path = find_config_file(file)
  if path.suffix == ".json":
    return ResolvedConfig(read_config_json(path), path, None, {})
  module = import_config_module(path, name)
  make = getattr(module, "get_config", None)
  if not callable(make):
    raise UsageError(f"--config={name}: {path} has no get_config(). Define one that returns a ConfigDict.")
  defaults = [parameter.default for parameter in inspect.signature(make).parameters.values()]
  default = defaults[0] if defaults and isinstance(defaults[0], str) else None
  if variant and not defaults:
    raise UsageError(f"--config={name}: {path} has no variants, because its get_config() has no argument.")
  config = call_user_code(lambda: make(variant) if variant else make(), path, name)
  if not isinstance(config, ConfigDict):
    raise UsageError(
      f"--config={name}: get_config() in {path} returns {type(config).__name__}. Return an ml_collections.ConfigDict."
    )
  tree = call_user_code(lambda: ConfigDict(config).copy_and_resolve_references().to_dict(), path, name)  # unfreezes it
  config = ConfigDict(lists_to_tuples(tree))
  try:
    check_keys(config)
  except UsageError as error:
    raise UsageError(f"--config={name}: {error}") from None
  functions = getattr(module, "VARIANTS", None)
  functions = functions if isinstance(functions, Mapping) else {}
  variants = {name: inspect.getdoc(function) or "" for name, function in functions.items()}
  return ResolvedConfig(config, path, variant or default, variants)


def find_config_file(name: str) -> Path:
  """Returns the file of a name such as configs/vae.py, vae.py or vae, in the working directory or of this project.

  Raises:
    UsageError: There is none.
  """
  candidates = [expand_user(name), CONFIGS_DIR.parent / name, CONFIGS_DIR / name, CONFIGS_DIR / f"{name}.py"]
  for path in candidates if name else ():
    if path.is_file():
      return path
  if name and Path(name, "config.json").is_file():
    raise UsageError(f"--config={name} is the workdir of a run. Use --workdir={name}, or --config={name}/config.json.")
  known = ", ".join(sorted(f"configs/{path.name}" for path in CONFIGS_DIR.glob("*.py")))
  raise UsageError(f"--config={name}: no such file. Choose one of {known}, or write your own.")


def import_config_module(path: Path, name: str) -> ModuleType:
  """Imports a config file, which may import this project's config files as `configs`.

  Args:
    name: The file as the user named it, for messages.
  """
  if "configs" not in sys.modules:
    package = importlib.machinery.ModuleSpec("configs", None, is_package=True)
    package.submodule_search_locations = [str(CONFIGS_DIR)]
    sys.modules["configs"] = importlib.util.module_from_spec(package)
  loader = importlib.machinery.SourceFileLoader("config_file", str(path))
  module = importlib.util.module_from_spec(importlib.util.spec_from_loader("config_file", loader))
  call_user_code(lambda: loader.exec_module(module), path, name)
  return module


def call_user_code(call: Callable[[], Any], path: Path, name: str) -> Any:
  """Returns `call()`, which runs code of the config file `path`.

  Raises:
    UsageError: It raised an exception, SystemExit included. The message names the line.
  """
  try:
    return call()
  except UsageError:
    raise
  except (Exception, SystemExit) as error:
    if isinstance(error, SyntaxError):
      lines = [error.lineno]
    else:
      frames = traceback.extract_tb(error.__traceback__)
      lines = [frame.lineno for frame in frames if Path(frame.filename) == path]
    where = f"{path}, line {lines[-1]}" if lines and lines[-1] else path
    message = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    if type(error) is ValueError and message:  # a config file's own message, such as that of an unknown variant
      raise UsageError(f"--config={name}: {message}") from None
    message = f"{type(error).__name__}: {message}" if message else type(error).__name__
    raise UsageError(f"--config={name}: {message} ({where})") from None
