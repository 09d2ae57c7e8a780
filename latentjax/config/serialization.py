"""Plain values for configs, and configs read from JSON."""

import numbers
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from latentjax.config.schema import check_config, check_keys
from latentjax.runtime.errors import RunError, UsageError
from latentjax.runtime.fileio import load_json

# Fields of config.json besides the config: the format of the workdir's files, the images' (H, W, C), and the
# provenance of every command that trained there.
RECORDED = ("format", "image_shape", "run")


def to_plain(value: Any) -> Any:
  """Returns a config's value with tuples for lists, which configs lack, and Python's numbers for those of NumPy etc."""
  if isinstance(value, dict):
    return {name: to_plain(item) for name, item in value.items()}
  if hasattr(value, "tolist"):  # scalars and arrays of NumPy and JAX
    value = value.tolist()
  if isinstance(value, list | tuple):
    return tuple(map(to_plain, value))
  if isinstance(value, bool) or not isinstance(value, numbers.Real):
    return value
  return int(value) if isinstance(value, numbers.Integral) else float(value)


def read_config_json(path: Path) -> ConfigDict:
  """Returns the config in a config.json; raises RunError if the file cannot be read or holds none."""
  try:
    tree = to_plain(load_json(path.read_bytes()))
    config = ConfigDict({name: value for name, value in tree.items() if name not in RECORDED})
    check_keys(config)
    check_config(config)
    return config
  except (OSError, ValueError, TypeError, AttributeError, KeyError, UsageError) as error:
    reason = f"{path} is damaged or from another version: {str(error).rstrip('.')}"
    raise RunError(f"{reason}. Restore it, or choose another workdir.") from None
