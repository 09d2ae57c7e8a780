"""Arguments, configs and random images shared by the benchmarks."""

import argparse
import ast
import dataclasses
import importlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from latentjax.runtime.errors import UsageError, last_line

CONFIGS = ("vae:default", "ladder_vae:default", "draw:base", "draw:filterbank")  # FILE:VARIANT of configs/
IMAGE_SHAPE = (28, 28, 1)


def load_config(name: str, changes: Sequence[str] = ()) -> ConfigDict:
  """Loads the config FILE:VARIANT of configs/ and sets every KEY=VALUE of `changes`.

  Raises:
    SystemExit: Unknown config, key or value.
  """
  from latentjax import models  # imports JAX, which must see the platform that a benchmark chooses
  from latentjax.config.schema import check_config

  file, _, variant = name.partition(":")
  try:
    config = importlib.import_module(f"configs.{file}").get_config(variant or "demo")
    values = {key: parse_value(value) for key, _, value in (change.partition("=") for change in changes)}
    if problem := models.unknown_key(config, values):
      raise UsageError(problem)
    config.update_from_flattened_dict(values)
    check_config(config)
    models.check_model(config.model)
    return config
  except ModuleNotFoundError:
    raise SystemExit(f"error: there is no config {name!r}. Give FILE:VARIANT of configs/, such as draw:base.") from None
  except (ValueError, TypeError, UsageError) as error:
    raise SystemExit(f"error: {name}: {last_line(error)}") from None


def change_plan(plan, changes: str):
  """Returns DRAW's `ExecutionPlan` with every FIELD=VALUE of `changes`, separated by commas.

  Raises:
    SystemExit: Unknown field or value.
  """
  values = {
    field: parse_value(value) for field, _, value in (each.partition("=") for each in changes.split(",") if each)
  }
  try:
    return dataclasses.replace(plan, **values)
  except (ValueError, TypeError) as error:
    fields = ", ".join(field.name for field in dataclasses.fields(plan))
    raise SystemExit(f"error: {changes}: {last_line(error)}. The fields of a plan are {fields}.") from None


def parse_value(text: str):
  """Returns a Python literal, or the string itself."""
  try:
    return ast.literal_eval(text)
  except (SyntaxError, ValueError):
    return text


def random_images(batch_size: int) -> np.ndarray:
  """Returns about 4,096 uint8 images [M, H, W, C], and at least two batches."""
  count = batch_size * max(2, 4096 // batch_size)
  return np.random.default_rng(0).integers(0, 256, (count, *IMAGE_SHAPE), np.uint8)


def positive(text: str) -> int:
  """Parses an integer of at least 1, for argparse."""
  if not text.isascii() or not text.isdigit() or int(text) < 1:
    raise argparse.ArgumentTypeError(f"{text!r} is not an integer of at least 1")
  return int(text)


def output_file(text: str) -> Path:
  """Parses the path of a file to write, for argparse."""
  if not Path(text).parent.is_dir():
    raise argparse.ArgumentTypeError(f"there is no directory {str(Path(text).parent)!r}")
  return Path(text)


def create_parser(doc: str, **options) -> argparse.ArgumentParser:
  """Returns a parser that shows a module's docstring as it is."""
  return argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, **options)
