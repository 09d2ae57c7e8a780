"""Ladder VAE (Sonderby et al. 2016): a hierarchy of latents, shared between inference and generation.

latentjax train ladder_vae:VARIANT

Minutes and NLLs in the docstrings are rounded; docs/results.md has the commands, machines and errors.
"""

from ml_collections import ConfigDict

from latentjax.config.files import select_variant
from latentjax.models import default_config


def get_config(variant: str = "demo") -> ConfigDict:
  return select_variant(VARIANTS, variant)


def default() -> ConfigDict:
  """Ladder VAE of three layers, z 64-32-32, on full MNIST: at most 47 minutes on two CPU cores, NLL 84.9."""
  config = default_config("ladder_vae")
  config.train.epochs = 200
  config.train.learning_rate = 2e-3
  config.train.kl_warmup_epochs = 20.0
  config.eval.nll_samples = 500
  return config


def bottom_up() -> ConfigDict:
  """Three-layer VAE with bottom-up inference, on full MNIST: at most 30 minutes on two CPU cores, NLL 85.7."""
  config = default()
  config.model.inference = "bottom_up"
  return config


def paper() -> ConfigDict:
  """Ladder VAE of its paper, five layers, on full MNIST: NLL 82.5 after half its epochs, an hour on two CPU cores."""
  config = default()
  config.model.hidden_dims = (512, 256, 128, 64, 32)
  config.model.latent_dims = (64, 32, 16, 8, 4)
  config.model.mlp_depth = 2
  config.train.batch_size = 256
  config.train.epochs = 2000
  config.train.learning_rate = 1e-3
  config.train.schedule = "linear"
  config.train.kl_warmup_epochs = 200.0
  config.eval.nll_samples = 5000
  return config


def dense() -> ConfigDict:
  """Ladder VAE of five layers with skips, on full MNIST: 73 minutes of one CPU core (bfloat16), NLL 81.5."""
  config = paper()
  config.model.hidden_dims = (512, 256, 256, 256, 256)
  config.model.skips = True
  config.train.epochs = 340
  config.train.learning_rate = 2e-3
  config.train.schedule = "cosine"
  config.train.weight_decay = 0.5
  config.train.kl_warmup_epochs = 30.0
  config.train.iwae_samples = 5
  config.train.iwae_start_epoch = 260
  config.eval.nll_samples = 1000
  return config


def demo() -> ConfigDict:
  """Ladder VAE of three layers on 4,000 digits, no download: a minute on two CPU cores."""
  config = default()
  config.data.name = "mnist_digits"
  config.train.epochs = 100
  return config


VARIANTS = {"demo": demo, "default": default, "bottom_up": bottom_up, "paper": paper, "dense": dense}
