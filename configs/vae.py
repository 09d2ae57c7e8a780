"""Variational autoencoder with one layer of latents.

latentjax train vae:VARIANT
latentjax sweep vae:VARIANT

Minutes and NLLs in the docstrings are rounded; docs/results.md has the commands, machines and errors.
"""

from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from latentjax.config.files import select_variant
from latentjax.models import default_config


def get_config(variant: str = "demo") -> ConfigDict:
  return select_variant(VARIANTS, variant)


def default() -> ConfigDict:
  """VAE with two hidden layers, on full MNIST: at most 48 minutes on two CPU cores, NLL 86.9."""
  config = default_config("vae")
  config.train.epochs = 240
  config.train.learning_rate = 2e-3
  config.train.kl_warmup_epochs = 10.0  # against posterior collapse
  config.eval.nll_samples = 500
  return config


def residual() -> ConfigDict:
  """VAE with residual networks, on full MNIST: 20 minutes of one CPU core, NLL 84.1."""
  config = default()
  config.model.network = "residual"
  config.model.hidden_dims = (300, 300, 300)  # of the stream, then of its blocks
  config.model.latent_dim = 40
  config.model.activation = "silu"
  config.train.epochs = 160
  config.train.iwae_samples = 5
  config.train.iwae_start_epoch = 120
  config.train.kl_warmup_epochs = 16.0
  config.eval.nll_samples = 1000
  return config


def demo() -> ConfigDict:
  """VAE with two hidden layers, on 4,000 digits, no download: a minute on two CPU cores."""
  config = default()
  config.data.name = "mnist_digits"
  config.train.epochs = 100
  return config


def sweep() -> Iterator[dict[str, Any]]:
  """Yields the runs of `latentjax sweep vae`: three latent sizes, two seeds each."""
  for latent_dim in (16, 32, 64):
    for seed in (0, 1):
      yield {"model.latent_dim": latent_dim, "seed": seed}


VARIANTS = {"demo": demo, "default": default, "residual": residual}
