"""Configs as the commands of this directory name them: draw:base is the variant `base` of configs/draw.py."""

import ast
import importlib
from collections.abc import Sequence

from ml_collections import ConfigDict

from latentjax.config import check, unknown_key
from latentjax.errors import UsageError, last_line


def named_config(name: str, changes: Sequence[str] = ()) -> ConfigDict:
  """The config FILE:VARIANT of configs/, with every KEY=VALUE of `changes` set.

  Raises:
    SystemExit: there is no such config, key or value; its message says which.
  """
  file, _, variant = name.partition(":")
  try:
    config = importlib.import_module(f"configs.{file}").get_config(variant or "demo")
    values = {key: literal(value) for key, _, value in (change.partition("=") for change in changes)}
    if problem := unknown_key(config, values):
      raise UsageError(problem)
    config.update_from_flattened_dict(values)
    check(config)
    return config
  except ModuleNotFoundError:
    raise SystemExit(f"error: there is no config {name!r}: give FILE:VARIANT of configs/, such as draw:base") from None
  except (ValueError, TypeError, UsageError) as error:
    raise SystemExit(f"error: {name}: {last_line(error)}") from None


def literal(value: str):
  """A Python literal, or the string itself."""
  try:
    return ast.literal_eval(value)
  except (SyntaxError, ValueError):
    return value
