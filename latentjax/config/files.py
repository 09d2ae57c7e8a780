"""Config files: found by what a person types, run, and read for what their comments say of each key."""

import importlib.machinery
import importlib.util
import inspect
import re
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from ml_collections import ConfigDict

from latentjax.config.schema import flatten, require_complete
from latentjax.config.serialization import lists_to_tuples, read_config_json
from latentjax.runtime.errors import UsageError
from latentjax.runtime.fileio import expand_user

PACKAGE = Path(__file__).resolve().parents[1]

CONFIGS_DIR = next(
  path for path in (PACKAGE / "configs", PACKAGE.parent / "configs") if path.is_dir()
)  # installed, or not

COMMENTED = re.compile(r"^\s*config\.([\w.]+) = .*?  # (.+)$", re.MULTILINE)


class ResolvedConfig(NamedTuple):
  """A config file as the command line names it.

  Attributes:
    config: of the variant, or of the file where it has none.
    path: the file.
    variant: None where the file has none.
    variants: what there is to choose from, by name, with a line about each; empty where that is not known.
  """

  config: ConfigDict
  path: Path
  variant: str | None
  variants: dict[str, str]

  @property
  def shown(self) -> str:
    """The file as a person can name it from anywhere, if it is one of this project's."""
    return f"configs/{self.path.name}" if self.path.resolve().parent == CONFIGS_DIR.resolve() else str(self.path)


def load_config(asked: str) -> ResolvedConfig:
  """The config that `FILE` or `FILE:VARIANT` names; of a run's config.json that run's.

  Raises:
    UsageError: there is no such file, or it gives no config; the message says where in it.
    RunError: a config.json is damaged.
  """
  name, _, variant = asked.partition(":")
  path = find_config_file(name)
  if path.suffix == ".json":
    return ResolvedConfig(read_config_json(path), path, None, {})
  module = import_config_module(path, asked)
  make = getattr(module, "get_config", None)
  if not callable(make):
    raise UsageError(f"--config={asked}: {path} has no get_config()")
  defaults = [parameter.default for parameter in inspect.signature(make).parameters.values()]
  default = defaults[0] if defaults and isinstance(defaults[0], str) else None
  if variant and not defaults:
    raise UsageError(f"--config={asked}: {path} has no variants: its get_config() takes none")
  config = call_user_code(lambda: make(variant) if variant else make(), path, asked)
  if not isinstance(config, ConfigDict):
    raise UsageError(
      f"--config={asked}: get_config() in {path} returns {type(config).__name__}, where an ml_collections.ConfigDict"
      " is expected"
    )
  tree = call_user_code(lambda: ConfigDict(config).copy_and_resolve_references().to_dict(), path, asked)  # thawed, too
  config = ConfigDict(lists_to_tuples(tree))
  try:
    require_complete(config)
  except UsageError as error:
    raise UsageError(f"--config={asked}: {error}") from None
  variants = {
    name: inspect.getdoc(function) or ""
    for name, function in inspect.getmembers(module, inspect.isfunction)
    if defaults and function.__module__ == module.__name__ and not inspect.signature(function).parameters
    if inspect.signature(function).return_annotation is ConfigDict
  }
  return ResolvedConfig(config, path, variant or default, variants)


def find_config_file(name: str) -> Path:
  """The file of a name such as configs/vae.py, vae.py or vae: in the working directory, or of this project.

  Raises:
    UsageError: there is none.
  """
  own = [CONFIGS_DIR.parent / name, CONFIGS_DIR / name, CONFIGS_DIR / f"{name}.py"]
  for path in (expand_user(name), *own) if name else ():
    if path.is_file():
      return path
  if name and Path(name, "config.json").is_file():
    raise UsageError(f"--config={name} is the workdir of a run: say --workdir={name}, or --config={name}/config.json")
  known = ", ".join(sorted(f"configs/{path.name}" for path in CONFIGS_DIR.glob("*.py") if path.name != "common.py"))
  raise UsageError(f"--config={name}: no such file; there are {known}")


def import_config_module(path: Path, asked: str) -> ModuleType:
  """A config file as a module; it may import the project's own as `configs`."""
  if "configs" not in sys.modules:
    package = importlib.machinery.ModuleSpec("configs", None, is_package=True)
    package.submodule_search_locations = [str(CONFIGS_DIR)]
    sys.modules["configs"] = importlib.util.module_from_spec(package)
  loader = importlib.machinery.SourceFileLoader("config_file", str(path))
  module = importlib.util.module_from_spec(importlib.util.spec_from_loader("config_file", loader))
  call_user_code(lambda: loader.exec_module(module), path, asked)
  return module


def call_user_code(call, path: Path, asked: str):
  """What `call` returns; whatever a person's own code raises, an exit too, becomes one line that says where."""
  try:
    return call()
  except (Exception, SystemExit) as error:
    if isinstance(error, SyntaxError):
      lines = [error.lineno]
    else:
      frames = traceback.extract_tb(error.__traceback__)
      lines = [frame.lineno for frame in frames if Path(frame.filename) == path]
    where = f"{path}, line {lines[-1]}" if lines and lines[-1] else path
    message = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    if isinstance(error, UsageError):
      raise
    if type(error) is not ValueError or not message:  # a ValueError is what a config file says of its variants
      message = f"{type(error).__name__}: {message}" if message else type(error).__name__
      raise UsageError(f"--config={asked}: {message} ({where})") from None
    raise UsageError(f"--config={asked}: {message}") from None


def of_another_model(key: str, config: ConfigDict) -> str | None:
  """A line about a key that another model has, with or without its section; None where none has it."""
  section, _, leaf = key.rpartition(".")
  if section not in ("", "model") or leaf in (known.rpartition(".")[2] for known in flatten(config.to_dict())):
    return None
  assigned = re.compile(rf"^\s*config\.model\.{re.escape(leaf)} = ", re.MULTILINE)
  files = [path for path in sorted(CONFIGS_DIR.glob("*.py")) if assigned.search(path.read_text(encoding="utf-8"))]
  if not files:
    return None
  owners = " and ".join(path.stem for path in files)
  return f"model.{leaf} is a key of {owners}, and this config is of {config.model.name}: --help prints its keys"


def key_descriptions(path: Path) -> dict[str, str]:
  """What config files say of their keys: the comments behind their assignments, of the shared ones first."""
  first = [CONFIGS_DIR / "common.py", path]
  meanings_by_key: dict[str, str] = {}
  for file in [*first, *sorted(set(CONFIGS_DIR.glob("*.py")) - set(first))]:
    for key, comment in COMMENTED.findall(file.read_text(encoding="utf-8")) if file.suffix == ".py" else ():
      meanings_by_key.setdefault(key, comment)
  return meanings_by_key
