"""Convolutional Ladder VAE: latents at several resolutions.

latentjax train conv_ladder:VARIANT

Results and training times: docs/results.md.
"""

from ml_collections import ConfigDict

from latentjax.config.files import select_variant
from latentjax.models import default_config


def get_config(variant: str = "demo") -> ConfigDict:
  return select_variant(VARIANTS, variant)


def default() -> ConfigDict:
  """Convolutional Ladder VAE with 5 layers, on full MNIST: not trained unchanged yet."""
  config = default_config("conv_ladder")
  config.train.batch_size = 64
  config.train.optimizer = "muon"
  config.train.learning_rate = 8e-3
  config.train.adam_b1 = 0.8
  config.train.clip_norm = 1.0
  config.train.weight_decay = 0.1
  config.train.free_bits = 2.0  # keep the upper layers in use
  return config


def demo() -> ConfigDict:
  """Convolutional Ladder VAE with 5 layers, on 4,000 digits, no download: 4 minutes of one CPU core, NLL 86.0."""
  config = default()
  config.data.name = "mnist_digits"
  config.train.epochs = 34
  config.train.kl_warmup_epochs = 8.0
  config.train.ema_decay = 0.99
  config.train.weight_decay = 0.0
  config.train.free_bits = 4.0
  return config


def photos() -> ConfigDict:
  """Convolutional Ladder VAE with 7 layers, on crops of photographs, no download: not trained to its end."""
  config = default()
  config.data.name = "photo_patches"
  config.data.binarization = "none"
  config.model.likelihood = "logistic_mixture"
  config.model.levels = "1:1x64z16 4:1x64z8 8:2x48z4 16:2x32z4 32:1x16z1"
  config.train.epochs = 20
  config.train.learning_rate = 4e-3
  config.train.ema_decay = 0.99
  config.eval.batch_size = 100
  return config


def svhn() -> ConfigDict:
  """Convolutional Ladder VAE with 15 layers, on cropped SVHN, for an accelerator: not trained yet."""
  config = default()
  config.data.name = "svhn_cropped"
  config.data.binarization = "none"
  config.model.likelihood = "logistic_mixture"
  config.model.levels = "1:1x128z32 4:3x128z8 8:4x128z8 16:4x96z4 32:3x64z2"
  config.train.batch_size = 128
  config.train.epochs = 100
  config.train.learning_rate = 4e-3
  return config


def cifar() -> ConfigDict:
  """Convolutional Ladder VAE with 25 layers, on CIFAR-10, for an accelerator: not trained yet."""
  config = svhn()
  config.data.name = "cifar10"
  config.model.levels = "1:2x192z32 4:4x192z16 8:6x192z16 16:7x128z8 32:6x96z4"
  config.train.epochs = 300
  return config


VARIANTS = {"demo": demo, "default": default, "photos": photos, "svhn": svhn, "cifar": cifar}
