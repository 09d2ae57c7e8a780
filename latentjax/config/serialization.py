"""config.json: a config as a run keeps it."""

import json
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from latentjax.config.schema import check_config, require_complete
from latentjax.runtime.errors import RunError, UsageError

# What else config.json says: the format of the workdir's files, the images' (H, W, C), and of every command that
# trained there the code, libraries and data.
RECORDED = ("format", "image_shape", "run")


def to_json(config: ConfigDict) -> str:
  return json.dumps(config.to_dict(), indent=2) + "\n"


def lists_to_tuples(tree: dict[str, Any]) -> dict[str, Any]:
  """The same with a tuple for each list: JSON has only these, and a config keeps only those."""
  nested = {name: lists_to_tuples(value) for name, value in tree.items() if isinstance(value, dict)}
  return {name: tuple(value) if isinstance(value, list) else value for name, value in tree.items()} | nested


def read_config_json(path: Path) -> ConfigDict:
  """The config in a config.json, without what else it says; lists come back as the tuples they were.

  Raises:
    RunError: the file cannot be read or is no config.
  """
  try:
    tree = lists_to_tuples(json.loads(path.read_text(encoding="utf-8")))
    config = ConfigDict({name: value for name, value in tree.items() if name not in RECORDED})
    require_complete(config)
    check_config(config)
    return config
  except (OSError, ValueError, TypeError, AttributeError, KeyError, UsageError) as error:
    raise RunError(f"{path} is damaged or of another version ({error}): restore it or choose another workdir") from None
