"""The variational autoencoder with one layer of latents.

python main.py --config=configs/vae.py:VARIANT [--mode=sweep]

What the variants reach, and in which time: docs/results.md.
"""

from collections.abc import Iterator

from ml_collections import ConfigDict

from configs import common


def get_config(variant: str = "demo") -> ConfigDict:
  """A variant by name: demo, default or residual."""
  variants = {"demo": demo, "default": default, "residual": residual}
  if variant not in variants:
    raise common.unknown_variant(variant, list(variants))
  return variants[variant]()


def default() -> ConfigDict:
  """Two hidden layers on full MNIST."""
  config = common.get_config()
  config.model.name = "vae"  # the model
  config.model.hidden_dims = (512, 256)
  config.model.latent_dim = 64  # latents of an image
  config.model.activation = "relu"  # relu | tanh | silu
  config.model.network = "dense"  # dense | residual: a stream to which blocks add
  config.model.likelihood = "bernoulli"  # bernoulli | discretized_logistic: of 256 values, for binarization = none
  config.train.epochs = 240
  config.train.learning_rate = 2e-3
  config.train.kl_warmup_epochs = 10.0  # against latents that fall asleep early
  config.eval.nll_samples = 500
  return config


def residual() -> ConfigDict:
  """The lowest NLL: residual networks, which train faster, and importance-weighted training at the end."""
  config = default()
  config.model.network = "residual"
  config.model.hidden_dims = (300, 300, 300)  # the stream's width, then those of the blocks
  config.model.latent_dim = 40
  config.model.activation = "silu"
  config.train.epochs = 160
  config.train.iwae_samples = 5
  config.train.iwae_start_epoch = 120
  config.train.kl_warmup_epochs = 16.0
  config.eval.nll_samples = 1000
  return config


def demo() -> ConfigDict:
  """The same on digits that need no download."""
  config = default()
  config.data.name = "mnist_digits"
  config.train.epochs = 100
  return config


def sweep() -> Iterator[dict]:
  """What --mode=sweep runs: three sizes of latent, each from two seeds."""
  for latent_dim in (16, 32, 64):
    for seed in (0, 1):
      yield {"model.latent_dim": latent_dim, "seed": seed}
