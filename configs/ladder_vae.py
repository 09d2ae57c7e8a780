"""Ladder VAE (Sonderby et al. 2016): a hierarchy of latents, shared between inference and generation.

python main.py --config=configs/ladder_vae.py:VARIANT

Results and training times: docs/results.md.
"""

from ml_collections import ConfigDict

from latentjax.config.files import select_variant
from latentjax.models import default_config


def get_config(variant: str = "demo") -> ConfigDict:
  return select_variant(VARIANTS, variant)


def default() -> ConfigDict:
  """Three layers on full MNIST, with the sizes of the original project."""
  config = default_config("ladder_vae")
  config.train.epochs = 200
  config.train.learning_rate = 2e-3
  config.train.kl_warmup_epochs = 20.0
  config.eval.nll_samples = 500
  return config


def bottom_up() -> ConfigDict:
  """The control: a plain hierarchical VAE of the same sizes, with bottom-up inference."""
  config = default()
  config.model.inference = "bottom_up"
  return config


def paper() -> ConfigDict:
  """The paper's five layers of two-layer MLPs: 2,000 epochs, KL warmup over 200."""
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
  """The paper's latents with skips, wider upper layers, weight decay and a cosine schedule."""
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
  """`default` on digits that need no download."""
  config = default()
  config.data.name = "mnist_digits"
  config.train.epochs = 100
  return config


VARIANTS = {"demo": demo, "default": default, "bottom_up": bottom_up, "paper": paper, "dense": dense}
