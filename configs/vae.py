"""The variational autoencoder with one layer of latents.

Measured on 2 CPU cores (shared with another training), full MNIST, dynamic binarisation:

    default   240 epochs, 20.0 minutes: test ELBO -91.78, NLL 86.93 (K = 500)

python main.py --config=configs/vae.py:VARIANT [--mode=sweep]
"""

from collections.abc import Iterator

from ml_collections import ConfigDict

from configs import common


def get_config(variant: str = "demo") -> ConfigDict:
  """A variant by name: demo or default."""
  variants = {"demo": demo, "default": default}
  if variant not in variants:
    raise common.unknown_variant(variant, list(variants))
  return variants[variant]()


def default() -> ConfigDict:
  """Two hidden layers on full MNIST."""
  config = common.get_config()
  config.model.name = "vae"  # the model
  config.model.hidden_dims = (512, 256)
  config.model.latent_dim = 64  # latents of an image
  config.model.encoder_activation = "relu"  # relu | tanh
  config.model.decoder_activation = "relu"  # relu | tanh
  config.train.epochs = 240
  config.train.learning_rate = 2e-3
  config.train.kl_warmup_epochs = 10.0  # without it the KL settles lower: latents fall asleep early
  config.eval.nll_samples = 500
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
