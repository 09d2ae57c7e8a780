"""Models by name. A new one is a class that follows `base.Model`, and a line in `MODELS`."""

from collections.abc import Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict

from latentjax.config import schema
from latentjax.config.schema import KEYS, Key, check_config, check_values, field_keys, flatten, nearest_key, one_of
from latentjax.config.serialization import to_plain
from latentjax.models.base import Model
from latentjax.models.conv_ladder import ConvLadderVAE
from latentjax.models.draw.model import DRAW
from latentjax.models.ladder_vae import LadderVAE
from latentjax.models.vae import VAE
from latentjax.runtime.errors import UsageError

MODELS: dict[str, type[Model]] = {"conv_ladder": ConvLadderVAE, "draw": DRAW, "ladder_vae": LadderVAE, "vae": VAE}


def config_keys(name: str) -> dict[str, Key]:
  """Returns all keys of the configs of a model; of an unknown model, those that all models have."""
  name_key = Key(name, one_of(*MODELS), "the model", ("model", "arch", "architecture"))
  fields = field_keys(MODELS[name]) if name in MODELS else {}
  return {"model.name": name_key} | {f"model.{field}": spec for field, spec in fields.items()} | KEYS


def default_config(name: str) -> ConfigDict:
  """Returns the default config of a model; raises UsageError if there is no such model."""
  if name not in MODELS:
    raise UsageError(f"model.name must be one of {', '.join(MODELS)}, not {name!r}.")
  config = schema.default_config()
  fields = {field: spec.default for field, spec in field_keys(MODELS[name]).items()}
  config.model = ConfigDict({"name": name} | fields, type_safe=False)
  return config


def create_model(config: ConfigDict, image_shape: tuple[int, int, int]) -> Model:
  """Returns the model that the section `config.model` describes, for images of shape (H, W, C).

  Raises:
    UsageError: A key is missing or unknown, or a value is invalid or does not fit the images.
  """
  check_model(config, image_shape)
  fields = config.to_dict()
  return MODELS[fields.pop("name")](image_shape=image_shape, **fields)


def check_model(config: ConfigDict, image_shape: tuple[int, int, int] | None = None) -> None:
  """Raises UsageError unless `config.model` describes a model, and one for these images if their shape is given."""
  name = config.get("name")
  values = {"model.name": name} | {f"model.{field}": value for field, value in config.to_dict().items()}
  keys = {key: spec for key, spec in config_keys(name).items() if key not in KEYS}
  check_values(values, {"model.name": keys["model.name"]})
  if unknown := sorted(values.keys() - keys.keys()):
    near = nearest_key(unknown[0], keys)
    raise UsageError(f"{name} has no {unknown[0]}. Did you mean {near}? --config={name} --help lists all of its keys.")
  if missing := sorted(keys.keys() - values.keys()):
    raise UsageError(f"{missing[0]} is missing. Start from latentjax.models.default_config({name!r}).")
  check_values(values, keys)
  if conflict := MODELS[name].validate(config.to_dict(), image_shape):
    raise UsageError(conflict)


def unknown_key(config: ConfigDict, names: Iterable[str]) -> str | None:
  """Returns a message about the first of `names` that is not a key of `config`, or None."""
  model, known = config.model.name, flatten(config.to_dict())
  others = {key: spec for other in MODELS for key, spec in config_keys(other).items()}
  for name in names:
    if inside := [key for key in known if key.startswith(f"{name}.")]:
      return f"{name} is a section of the config. Set one of its keys: {', '.join(inside)}."
    if name in known:
      continue
    near = nearest_key(name, config_keys(model) | others)
    owners = [other for other in MODELS if near in config_keys(other)]
    if near in known or not owners:
      return f"Unknown config key {name!r}. Did you mean {near!r}? --help lists all keys."
    return (
      f"Unknown config key {name!r}. {near} is a key of {' and '.join(owners)}, and this config is of {model}. --help"
      " lists its keys."
    )
  return None


def override(config: ConfigDict, changes: Mapping[str, Any]) -> ConfigDict:
  """Returns a checked copy of `config` with the values of some keys changed; raises UsageError if one is invalid."""
  if unknown := unknown_key(config, changes):
    raise UsageError(unknown)
  changed, values = config.copy_and_resolve_references(), to_plain(dict(changes))
  try:
    changed.update_from_flattened_dict(values)
  except (TypeError, ValueError):
    with changed.ignore_type():  # the checks below say which values are allowed
      changed.update_from_flattened_dict(values)
  check_config(changed)
  check_model(changed.model)
  return changed


def display_name(config: ConfigDict) -> str:
  """Returns the display name of `config.model`, such as 'DRAW, filterbank attention'."""
  return MODELS[config.name].display_name(config) if config.name in MODELS else str(config.name)


def performance_keys(config: ConfigDict) -> tuple[str, ...]:
  """Returns the keys of `config.model` that change speed and memory only."""
  return tuple(name for name, spec in config_keys(config.name).items() if name not in KEYS and not spec.identity)
