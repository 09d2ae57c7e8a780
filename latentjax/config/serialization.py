"""Configs as JSON."""

import json
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from latentjax.config.schema import check_config, check_keys
from latentjax.runtime.errors import RunError, UsageError

# Fields of config.json besides the config: the format of the workdir's files, the images' (H, W, C), and the
# provenance of every command that trained there.
RECORDED = ("format", "image_shape", "run")


def to_json(config: ConfigDict) -> str:
  return json.dumps(config.to_dict(), indent=2) + "\n"


def lists_to_tuples(tree: dict[str, Any]) -> dict[str, Any]:
  """Returns a copy with tuples in place of lists: JSON has no tuples, and configs have no lists."""
  nested = {name: lists_to_tuples(value) for name, value in tree.items() if isinstance(value, dict)}
  return {name: tuple(value) if isinstance(value, list) else value for name, value in tree.items()} | nested


def read_config_json(path: Path) -> ConfigDict:
  """Returns the config in a config.json; raises RunError if the file cannot be read or holds none."""
  try:
    tree = lists_to_tuples(json.loads(path.read_text(encoding="utf-8")))
    config = ConfigDict({name: value for name, value in tree.items() if name not in RECORDED})
    check_keys(config)
    check_config(config)
    return config
  except (OSError, ValueError, TypeError, AttributeError, KeyError, UsageError) as error:
    reason = f"{path} is damaged or from another version: {str(error).rstrip('.')}"
    raise RunError(f"{reason}. Restore it, or choose another workdir.") from None
