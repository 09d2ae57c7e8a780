"""DRAW (Gregor et al. 2015): a canvas refined over T steps, with or without filterbank attention.

python main.py --config=configs/draw.py:VARIANT

What the variants reach, and in which time: docs/results.md.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(variant: str = "demo") -> ConfigDict:
  """A variant by name: demo, base, wide, filterbank, deep, paper, two_digits, two_digits_demo, colour, svhn, cifar."""
  variants = {
    "demo": demo,
    "base": base,
    "wide": wide,
    "filterbank": filterbank,
    "deep": deep,
    "paper": paper,
    "two_digits": two_digits,
    "two_digits_demo": two_digits_demo,
    "colour": colour,
    "svhn": svhn,
    "cifar": cifar,
  }
  if variant not in variants:
    raise common.unknown_variant(variant, list(variants))
  return variants[variant]()


def filterbank() -> ConfigDict:
  """h 256, z 32, T 10, N 12 on full MNIST."""
  config = common.get_config()
  config.model.name = "draw"  # the model
  config.model.attention = "filterbank"  # none | filterbank
  config.model.num_steps = 10  # glimpses T
  config.model.read_size = 12  # N of the N x N filters that read
  config.model.write_size = 12  # of those that write
  config.model.hidden_dim = 256  # units of both LSTMs
  config.model.latent_dim = 32  # latents of a glimpse
  config.model.prior = "learned"  # standard: N(0, I) | learned: from the decoder, the posterior relative to it
  config.model.layer_norm = False  # normalise the LSTMs
  config.model.likelihood = "bernoulli"  # bernoulli | discretized_logistic: of 256 values, for binarization = none
  config.model.unroll = 0  # steps per iteration of the compiled loop; 0 chooses by backend
  config.model.weight_gradients = "auto"  # per_step | deferred | auto: by backend
  config.model.remat = "none"  # none | step | sqrt: what to compute again rather than keep, for many steps
  config.model.init_scale = 0.05  # standard deviation of initial weights
  config.model.init_log_variance = 0.0  # initial log variance of both windows, log pixels^2
  config.model.init_log_stride = 0.0  # initial log stride of both windows; 0 spans the image
  config.model.init_write_gain = 1.0  # initial factor on what is written
  config.train.learning_rate = 4e-3
  return config


def base() -> ConfigDict:
  """The same without attention."""
  config = filterbank()
  config.model.attention = "none"
  return config


def wide() -> ConfigDict:
  """The best bound without attention: h 512, T 16, and weight decay against that many weights."""
  config = base()
  config.model.hidden_dim = 512
  config.model.num_steps = 16
  config.train.learning_rate = 2e-3
  config.train.weight_decay = 0.2
  return config


def deep() -> ConfigDict:
  """The best bound: T 32 instead of the 10 of `filterbank`, and orthogonal steps of its weights."""
  config = filterbank()
  config.model.num_steps = 32
  config.train.optimizer = "muon"
  return config


def paper() -> ConfigDict:
  """The paper's MNIST settings on the static set."""
  config = filterbank()
  config.data.name = "binarized_mnist"
  config.data.binarization = "static"
  config.model.prior = "standard"
  config.model.num_steps = 64
  config.model.latent_dim = 100
  config.model.read_size = 2
  config.model.write_size = 5
  config.train.epochs = 200
  config.train.learning_rate = 2e-3
  return config


def demo() -> ConfigDict:
  """4,000 real digits that need no download: minutes on two CPU cores."""
  config = filterbank()
  config.data.name = "mnist_digits"
  config.model.init_write_gain = 12.0
  config.train.batch_size = 64  # twice the steps of 128 for the same minutes
  config.train.epochs = 24
  config.train.learning_rate = 1e-2
  config.train.warmup_epochs = 1.0
  config.train.kl_warmup_epochs = 8.0
  config.train.adam_b1 = 0.8
  config.train.clip_norm = 0.5
  config.train.ema_decay = 0.99
  return config


def two_digits() -> ConfigDict:
  """Two digits of full MNIST anywhere on 60 x 60 pixels, in every step others."""
  config = filterbank()
  config.data.name = "two_digits"
  config.model.num_steps = 20
  config.model.init_log_stride = -0.7  # windows of the size of a digit
  config.model.init_write_gain = 12.0
  config.train.learning_rate = 2e-3
  return config


def two_digits_demo() -> ConfigDict:
  """The same of the demo's digits, which need no download."""
  config = two_digits()
  config.data.name = "two_digits/mnist_digits"
  config.model.num_steps = 12
  config.train.batch_size = 64
  config.train.epochs = 40
  config.train.learning_rate = 4e-3
  config.train.warmup_epochs = 1.0
  config.train.adam_b1 = 0.8
  config.train.clip_norm = 0.5
  return config


def svhn() -> ConfigDict:
  """The paper's sizes for SVHN, on the cropped set of 32 x 32 pixels."""
  config = filterbank()
  config.data.name = "svhn_cropped"
  config.data.binarization = "none"
  config.model.likelihood = "discretized_logistic"
  config.model.num_steps = 32
  config.model.hidden_dim = 800
  config.model.latent_dim = 100
  config.train.learning_rate = 1e-3
  return config


def cifar() -> ConfigDict:
  """The paper's sizes for CIFAR-10."""
  config = svhn()
  config.data.name = "cifar10"
  config.model.num_steps = 64
  config.model.hidden_dim = 400
  config.model.latent_dim = 200
  config.model.read_size = 5
  config.model.write_size = 5
  config.train.epochs = 200
  return config


def colour() -> ConfigDict:
  """Digits in colour that need no download: minutes on two CPU cores."""
  config = demo()
  config.data.name = "colour_digits"
  config.data.binarization = "none"
  config.model.likelihood = "discretized_logistic"
  config.model.num_steps = 8
  config.model.read_size = config.model.write_size = 8
  config.model.hidden_dim = 128
  config.train.epochs = 40
  config.train.kl_warmup_epochs = 0.0  # this and the next of the demo's were not tried with colour
  config.train.ema_decay = 0.999
  config.train.learning_rate = 3e-3  # as the scale falls, a step of the same size moves a pixel by more scales
  return config
