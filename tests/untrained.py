"""A workdir with a model in it that was never trained: what the weights are is nothing to a test of files."""

import importlib
from pathlib import Path

import jax

from latentjax import models
from latentjax.training.optimizer import create_optimizer
from latentjax.training.state import create_state
from latentjax.workdir import records, weights

SMALL = {
  "draw": {"num_steps": 3, "hidden_dim": 6, "latent_dim": 2, "read_size": 2, "write_size": 3},
  "ladder_vae": {"hidden_dims": (8, 6), "latent_dims": (3, 2)},
  "vae": {"hidden_dims": (8,), "latent_dim": 2},
}
STEP = 5


def write(workdir: Path, name: str, image_shape: tuple[int, int, int], **changes):
  """Writes config.json and model.npz of a small model into a new directory, and returns its config."""
  config = importlib.import_module(f"configs.{name}").get_config()
  config.model.update(SMALL[name])
  config.update_from_flattened_dict({"data.name": "tiny"} | changes)
  model = models.create_model(config.model, image_shape)
  optimizer = create_optimizer(config.train, lambda step: 0.0, model.STACKED_KERNELS)
  variables = jax.jit(lambda key: create_state(model, optimizer, 0.0, key).variables)(jax.random.key(1))
  workdir.mkdir(parents=True)
  records.write_config(workdir, config, image_shape, {"dataset_sha256": ""})
  weights.write_weights(workdir, image_shape, [config.seed], [STEP], [variables])
  return config
