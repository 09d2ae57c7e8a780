"""config.json: a config as a run keeps it, and as older versions kept theirs."""

import json
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from latentjax.config import check, flatten, require_complete
from latentjax.errors import RunError, UsageError

# What else config.json says: the format of the workdir's files, the images' (H, W, C), and of every command that
# trained there the code, libraries and data.
RECORDED = ("format", "image_shape", "run")

# Keys that an older config.json lacks because they came later, and what stood for them, by model.
SINCE = {
  "data.image_size": 0,
  "encode.nll_samples": 0,
  "train.importance_start": 0,
  "train.optimizer": "adam",
  "train.patience": 0,
  "train.pictures_every": 0,
  "train.profile_steps": 0,
  "train.warmup_epochs": 0.0,
  "train.weight_decay": 0.0,
  "benchmark.num_seeds": (0,),
}
CAME_LATER = {
  "draw": {**SINCE, "model.likelihood": "bernoulli", "model.prior": "standard", "model.write_gain": 1.0},
  "ladder_vae": {**SINCE, "model.likelihood": "bernoulli", "model.skips": False},
  "vae": {**SINCE, "model.likelihood": "bernoulli", "model.network": "dense"},
}


def to_json(config: ConfigDict) -> str:
  return json.dumps(config.to_dict(), indent=2) + "\n"


def with_tuples(tree: dict[str, Any]) -> dict[str, Any]:
  """The same with a tuple for each list: JSON has only these, and a config keeps only those."""
  nested = {name: with_tuples(value) for name, value in tree.items() if isinstance(value, dict)}
  return {name: tuple(value) if isinstance(value, list) else value for name, value in tree.items()} | nested


def read(path: Path) -> ConfigDict:
  """The config in a config.json, without what else it says; lists come back as the tuples they were.

  Raises:
    RunError: the file cannot be read or is no config.
  """
  try:
    tree = with_tuples(json.loads(path.read_text(encoding="utf-8")))
    config = renewed(ConfigDict({name: value for name, value in tree.items() if name not in RECORDED}))
    require_complete(config)
    check(config)
    return config
  except (OSError, ValueError, TypeError, AttributeError, KeyError, UsageError) as error:
    raise RunError(f"{path} is damaged or of another version ({error}): restore it or choose another workdir") from None


def renewed(config: ConfigDict) -> ConfigDict:
  """An older version's config as this version writes it, with the values that stood for keys it lacks.

  Raises:
    UsageError: no value of today's keys means what it says.
  """
  fields = config.model
  if "encoder_activation" in fields:  # the VAE had one activation for each network
    if fields.encoder_activation != fields.decoder_activation:
      raise UsageError("model.encoder_activation and model.decoder_activation differ, and there is one for both now")
    fields.activation = fields.encoder_activation
    del fields.encoder_activation, fields.decoder_activation
  known = flatten(config.to_dict())
  lacking = {key: value for key, value in CAME_LATER.get(fields.name, SINCE).items() if key not in known}
  for section in {key.partition(".")[0] for key in lacking} - set(config):
    config[section] = ConfigDict()
  config.update_from_flattened_dict(lacking)
  return config
