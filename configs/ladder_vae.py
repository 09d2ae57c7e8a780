"""The Ladder VAE (Sonderby et al. 2016): a hierarchy in space, shared between inference and generation.

python main.py --config=configs/ladder_vae.py:VARIANT

What the variants reach, and in which time: docs/results.md.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(variant: str = "demo") -> ConfigDict:
  """A variant by name: demo, default, bottom_up, paper or dense."""
  variants = {"demo": demo, "default": default, "bottom_up": bottom_up, "paper": paper, "dense": dense}
  if variant not in variants:
    raise common.unknown_variant(variant, list(variants))
  return variants[variant]()


def default() -> ConfigDict:
  """Three layers on full MNIST, the sizes of the original project."""
  config = common.get_config()
  config.model.name = "ladder_vae"  # the model
  config.model.hidden_dims = (512, 256, 256)  # from the image upwards
  config.model.latent_dims = (64, 32, 32)  # of each layer, from the image upwards
  config.model.mlp_depth = 1  # hidden layers of every MLP
  config.model.inference = "ladder"  # ladder | bottom_up
  config.model.skips = False  # from every layer of latents to all that is below, and around hidden layers
  config.model.likelihood = "bernoulli"  # bernoulli | discretized_logistic: of 256 values, for binarization = none
  config.train.epochs = 200
  config.train.learning_rate = 2e-3
  config.train.kl_warmup_epochs = 20.0
  config.eval.nll_samples = 500
  return config


def bottom_up() -> ConfigDict:
  """The control: a plain hierarchical VAE of the same sizes, which infers from the bottom up and shares nothing."""
  config = default()
  config.model.inference = "bottom_up"
  return config


def paper() -> ConfigDict:
  """The paper's five layers of two-layer MLPs, 2,000 epochs, KL warm-up over 200."""
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
  """The paper's latents with skips, upper layers as wide as those below, weight decay and a cosine schedule."""
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
  """The three layers on digits that need no download."""
  config = default()
  config.data.name = "mnist_digits"
  config.train.epochs = 100
  return config
