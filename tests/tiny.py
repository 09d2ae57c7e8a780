"""The tiny configs that tests train, one per model: they compile in seconds and train in less."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from latentjax import models
from latentjax.training.optimizer import create_optimizer
from latentjax.training.state import create_state
from latentjax.workdir import records, weights

MODELS = {  # the smallest that have every part of the model
  "vae": {"model.hidden_dims": (8,), "model.latent_dim": 2},
  "ladder_vae": {"model.hidden_dims": (8, 6), "model.latent_dims": (3, 2)},
  "conv_ladder": {"model.levels": "1:1x4z2 2:1x3z1"},
  "draw": {
    "model.num_steps": 3,
    "model.hidden_dim": 8,
    "model.latent_dim": 2,
    "model.read_size": 2,
    "model.write_size": 3,
  },
}
RUN = {  # on the data of conftest.py
  "data.name": "tiny",
  "train.batch_size": 16,
  "train.schedule": "constant",
  "eval.nll_samples": 3,
  "eval.batch_size": 16,
  "sample.num_images": 3,
}
UNTRAINED_STEP = 5


def create_config(model: str, changes: Mapping[str, Any] | None = None) -> ConfigDict:
  """Returns the tiny config of a model, changed by `changes` from keys such as "train.epochs" to values."""
  config = importlib.import_module(f"configs.{model}").get_config()
  config.update_from_flattened_dict({**RUN, **MODELS[model], **(changes or {})})
  return config


def flags(model: str, changes: Mapping[str, Any] | None = None) -> list[str]:
  """Returns the arguments of the command line that give the config of `create_config`."""
  values = {**RUN, **MODELS[model], **(changes or {})}
  return [f"--config={model}", *(f"--config.{key}={value}" for key, value in values.items())]


def write_untrained(
  workdir: Path, model: str, image_shape: tuple[int, int, int], changes: Mapping[str, Any] | None = None
) -> ConfigDict:
  """Writes a model with its first weights, as a run of one seed, into a new directory; returns its config."""
  config = create_config(model, changes)
  module = models.create_model(config.model, image_shape)
  optimizer = create_optimizer(config.train, lambda step: 0.0, module.STACKED_KERNELS)
  variables = jax.jit(lambda key: create_state(module, optimizer, 0.0, key).variables)(jax.random.key(1))
  workdir.mkdir(parents=True)
  records.write_config(workdir, config, image_shape, {"dataset_sha256": ""})
  weights.write_weights(workdir / "model.safetensors", image_shape, config.seed, UNTRAINED_STEP, variables)
  return config
