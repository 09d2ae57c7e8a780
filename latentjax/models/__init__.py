"""Models by name: a config makes a model. A new one is a file here that follows `contract.Model`, and a line below."""

from ml_collections import ConfigDict

from latentjax.config.schema import nearest_key, satisfies
from latentjax.models.base import Model
from latentjax.models.draw.model import DRAW
from latentjax.models.ladder_vae import LadderVAE
from latentjax.models.vae import VAE
from latentjax.runtime.errors import UsageError

__all__ = ["DRAW", "MODELS", "VAE", "LadderVAE", "Model", "Terms", "check", "create", "speed_keys", "title"]

MODELS: dict[str, type[Model]] = {"draw": DRAW, "ladder_vae": LadderVAE, "vae": VAE}


def create_model(config: ConfigDict, image_shape: tuple[int, int, int]) -> Model:
  """The model that `config.model` describes, for images of shape (H, W, C).

  Args:
    config: `name`, and a value for every field of that model.

  Raises:
    UsageError: a value is none of this model's, is impossible, or does not fit the images.
  """
  check_model(config, image_shape)
  fields = config.to_dict()
  return MODELS[fields.pop("name")](image_shape=image_shape, **fields)


def check_model(config: ConfigDict, image_shape: tuple[int, int, int] | None = None) -> None:
  """Raises UsageError if `config.model` describes no model, or none for these images where their shape is given."""
  fields = config.to_dict()
  name = fields.pop("name", None)
  if name not in MODELS:
    raise UsageError(f"model.name must be one of {', '.join(MODELS)}, not {name!r}")
  rules = MODELS[name].RULES
  if foreign := sorted(fields.keys() - rules.keys()):
    near = nearest_key(f"model.{foreign[0]}", [f"model.{key}" for key in rules])
    raise UsageError(
      f"{name} has no model.{foreign[0]}: the nearest is {near}; --config=configs/{name}.py has all of its keys"
    )
  if missing := sorted(rules.keys() - fields.keys()):
    raise UsageError(f"model.{missing[0]} is missing: start from --config=configs/{name}.py")
  for key, rule in rules.items():
    if not satisfies(fields[key], rule):
      raise UsageError(f"model.{key} must be {rule[0]}, not {fields[key]!r}")
  if conflict := MODELS[name].validate(fields, image_shape):
    raise UsageError(conflict)


def display_name(config: ConfigDict) -> str:
  """What `config.model` is called; a model that is not known here by its bare name."""
  return MODELS[config.name].title(config) if config.name in MODELS else str(config.name)


def performance_keys(config: ConfigDict) -> tuple[str, ...]:
  """The keys of `config.model` that change speed and memory and nothing else."""
  return tuple(f"model.{field}" for field in MODELS[config.name].PERFORMANCE_FIELDS) if config.name in MODELS else ()
