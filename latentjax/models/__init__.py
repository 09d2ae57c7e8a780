"""Models by name: a config makes a model."""

import dataclasses

from ml_collections import ConfigDict

from latentjax.config import FREE
from latentjax.errors import UsageError
from latentjax.models.draw import DRAW
from latentjax.models.ladder_vae import LadderVAE
from latentjax.models.terms import Terms
from latentjax.models.vae import VAE

__all__ = ["DRAW", "MODELS", "VAE", "LadderVAE", "Model", "Terms", "create"]

Model = DRAW | LadderVAE | VAE
MODELS = {"draw": DRAW, "ladder_vae": LadderVAE, "vae": VAE}


def create(config: ConfigDict, image_shape: tuple[int, int, int]) -> Model:
  """The model that `config.model` describes, for images of shape (H, W, C).

  Args:
    config: `name`, and a value for every field of that model.

  Raises:
    UsageError: a value is none of this model's or missing, or a glimpse is larger than the image.
  """
  fields = config.to_dict()
  name = fields.pop("name")
  own = {field.name for field in dataclasses.fields(MODELS[name])} - {"image_shape", "parent", "name"}
  if fields.keys() - own:
    raise UsageError(f"{name} has no model.{min(fields.keys() - own)}: start from --config=configs/{name}.py")
  absent = [key for key in sorted(own - fields.keys()) if f"model.{key}" not in FREE]
  if absent:  # a default would be filled in where a person has lost a line
    raise UsageError(f"{name} needs model.{absent[0]}, which the config has not: see configs/{name}.py")
  for key in ("read_size", "write_size"):
    if fields.get("attention") == "filterbank" and fields[key] > min(image_shape[:2]):
      height, width, _ = image_shape
      raise UsageError(f"model.{key} = {fields[key]} is larger than the image ({height} x {width} pixels)")
  if name == "ladder_vae" and len(fields["hidden_dims"]) != len(fields["latent_dims"]):
    raise UsageError(
      f"model.hidden_dims = {fields['hidden_dims']} and model.latent_dims = {fields['latent_dims']} must be equally"
      " long: an entry per layer"
    )
  return MODELS[name](image_shape=image_shape, **fields)
