"""DRAW (Gregor et al. 2015): a canvas refined over T steps, with or without filterbank attention.

python main.py --config=configs/draw.py:VARIANT

Results and training times: docs/results.md.
"""

from ml_collections import ConfigDict

from latentjax.config.files import select_variant
from latentjax.models import default_config


def get_config(variant: str = "demo") -> ConfigDict:
  return select_variant(VARIANTS, variant)


def filterbank() -> ConfigDict:
  """h 256, z 32, T 10, N 12 on full MNIST."""
  config = default_config("draw")
  config.train.learning_rate = 4e-3
  return config


def base() -> ConfigDict:
  """`filterbank` without attention."""
  config = filterbank()
  config.model.attention = "none"
  return config


def wide() -> ConfigDict:
  """The best bound without attention: h 512, T 16, and weight decay."""
  config = base()
  config.model.hidden_dim = 512
  config.model.num_steps = 16
  config.train.learning_rate = 2e-3
  config.train.weight_decay = 0.2
  return config


def deep() -> ConfigDict:
  """The best bound: `filterbank` with T 32 and Muon."""
  config = filterbank()
  config.model.num_steps = 32
  config.train.optimizer = "muon"
  return config


def paper() -> ConfigDict:
  """The paper's settings for MNIST, on the statically binarized set."""
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
  """4,000 real digits without a download: minutes on two CPU cores."""
  config = filterbank()
  config.data.name = "mnist_digits"
  config.model.init_write_gain = 12.0
  config.train.batch_size = 64  # twice as many steps as with 128, in the same time
  config.train.epochs = 24
  config.train.learning_rate = 1e-2
  config.train.warmup_epochs = 1.0
  config.train.kl_warmup_epochs = 8.0
  config.train.adam_b1 = 0.8
  config.train.clip_norm = 0.5
  config.train.ema_decay = 0.99
  return config


def two_digits() -> ConfigDict:
  """Two digits of full MNIST at random places on 60 x 60 pixels, new in every step."""
  config = filterbank()
  config.data.name = "two_digits"
  config.model.num_steps = 20
  config.model.init_log_stride = -0.7  # windows as large as a digit
  config.model.init_write_gain = 12.0
  config.train.learning_rate = 2e-3
  return config


def two_digits_demo() -> ConfigDict:
  """`two_digits` with the digits of `demo`, without a download."""
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
  """The paper's sizes for SVHN, on the cropped set with 32 x 32 pixels."""
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
  """Colored digits without a download: minutes on two CPU cores."""
  config = demo()
  config.data.name = "colour_digits"
  config.data.binarization = "none"
  config.model.likelihood = "discretized_logistic"
  config.model.num_steps = 8
  config.model.read_size = config.model.write_size = 8
  config.model.hidden_dim = 128
  config.train.epochs = 40
  config.train.kl_warmup_epochs = 0.0  # the demo's value was not tried with color, nor that of ema_decay
  config.train.ema_decay = 0.999
  config.train.learning_rate = 3e-3  # a step of the same size moves a pixel by more scales as the scale falls
  return config


VARIANTS = {
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
