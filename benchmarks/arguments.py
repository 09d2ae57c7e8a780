"""What the commands of this directory take: configs by name, draw:base for the variant `base` of configs/draw.py,
counts, changes to a plan, and files to write."""

import argparse
import ast
import dataclasses
import importlib
from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from latentjax.config.schema import check_config, unknown_key
from latentjax.runtime.errors import UsageError, last_line


def named_config(name: str, changes: Sequence[str] = ()) -> ConfigDict:
  """The config FILE:VARIANT of configs/, with every KEY=VALUE of `changes` set.

  Raises:
    SystemExit: there is no such config, key or value; its message says which.
  """
  from latentjax import models  # imports JAX, which must not be before a benchmark has chosen its platform

  file, _, variant = name.partition(":")
  try:
    config = importlib.import_module(f"configs.{file}").get_config(variant or "demo")
    values = {key: literal(value) for key, _, value in (change.partition("=") for change in changes)}
    if problem := unknown_key(config, values):
      raise UsageError(problem)
    config.update_from_flattened_dict(values)
    check_config(config)
    models.check_model(config.model)
    return config
  except ModuleNotFoundError:
    raise SystemExit(f"error: there is no config {name!r}: give FILE:VARIANT of configs/, such as draw:base") from None
  except (ValueError, TypeError, UsageError) as error:
    raise SystemExit(f"error: {name}: {last_line(error)}") from None


def changed_plan(plan, changes: str):
  """The `Plan` of a DRAW with every FIELD=VALUE of `changes`, which commas separate.

  Raises:
    SystemExit: there is no such field or value; its message says which.
  """
  values = {field: literal(value) for field, _, value in (each.partition("=") for each in changes.split(",") if each)}
  try:
    return dataclasses.replace(plan, **values)
  except (ValueError, TypeError) as error:
    fields = ", ".join(field.name for field in dataclasses.fields(plan))
    raise SystemExit(f"error: {changes}: {last_line(error)}; a plan has {fields}") from None


def positive(text: str) -> int:
  """A whole number of at least 1, for argparse."""
  if not text.isascii() or not text.isdigit() or int(text) < 1:
    raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
  return int(text)


def new_file(text: str) -> Path:
  """A file that can be written once the work is done, for argparse."""
  if not Path(text).parent.is_dir():
    raise argparse.ArgumentTypeError(f"there is no directory {str(Path(text).parent)!r}")
  return Path(text)


def literal(value: str):
  """A Python literal, or the string itself."""
  try:
    return ast.literal_eval(value)
  except (SyntaxError, ValueError):
    return value
