"""What every experiment shares: each model's config file starts from here and changes single lines."""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """The defaults of all keys outside `model`."""
  config = ConfigDict()
  config.seed = 0  # initialisation, order of images, binarisation of batches, noise
  config.precision = "float32"  # float32 | tensorfloat32 | bfloat16: of matrix products; all else is float32
  config.compilation_cache = True  # keep compiled programs between runs, in the user's cache directory

  config.data = ConfigDict()
  config.data.name = "mnist"  # mnist_digits | colour_digits (no download), any TFDS set, a folder, or an .npz
  config.data.image_size = 0  # crop and resize one's own images to so many pixels a side; 0 takes them as they are
  config.data.binarization = "dynamic"  # dynamic | static | none
  config.data.placement = "auto"  # auto | device | host: where the training images are

  config.model = ConfigDict()

  config.train = ConfigDict()
  config.train.batch_size = 128  # images of one step
  config.train.epochs = 60  # passes over the training images
  config.train.optimizer = "adam"  # adam | muon: orthogonal steps of matrices, better per epoch and dearer per step
  config.train.learning_rate = 1e-3  # where it is highest
  config.train.warmup_epochs = 0.0  # epochs over which the learning rate rises to its full value
  config.train.schedule = "cosine"  # constant | linear | cosine, from decay_start to decay_end
  config.train.decay_start = 0  # epoch at which the learning rate starts to fall
  config.train.decay_end = 0  # epoch at which it reaches 0; 0 stands for `epochs`
  config.train.adam_b1 = 0.9  # how long Adam averages gradients; its b2 is 0.999
  config.train.clip_norm = 10.0  # global gradient norm; 0 is off
  config.train.weight_decay = 0.0  # times the learning rate: what a step takes off every kernel; 0 is off
  config.train.ema_decay = 0.999  # moving average of weights for evaluation; 0 is off
  config.train.beta = 1.0  # weight of the KL after warm-up
  config.train.kl_warmup_epochs = 0.0  # epochs over which that weight rises from 0
  config.train.free_bits = 0.0  # nats per latent group that cost nothing extra; 0 is off
  config.train.iwae_samples = 1  # K > 1 trains the importance-weighted bound
  config.train.iwae_start_epoch = 0  # epoch from which that is trained; before it, the ELBO
  config.train.num_seeds = 1  # K > 1 trains seed, seed + 1, ... seed + K - 1 side by side in one program
  config.train.steps_per_call = 50  # at most so many optimiser steps per dispatch; the progress bar moves as often
  config.train.early_stopping_patience = 0  # epochs without a better validation bound that end the run; 0 is off
  config.train.log_images_every = 10  # epochs between samples and reconstructions in TensorBoard; 0 is off
  config.train.profile_steps = 0  # first steps of which TensorBoard gets a profile, in whole calls; 0 is off

  config.eval = ConfigDict()
  config.eval.batch_size = 500  # images at a time in validation and evaluation
  config.eval.nll_samples = 100  # importance samples K of the test log-likelihood
  config.eval.num_examples = 0  # only so many images of each split, for a quick look; 0 is all

  config.encode = ConfigDict()
  config.encode.nll_samples = 0  # importance samples K of every image's log-likelihood in latents.npz; 0 leaves it out

  config.sample = ConfigDict()
  config.sample.num_images = 64  # in every sheet of pictures

  config.benchmark = ConfigDict()
  config.benchmark.phase = "train"  # train | eval | sample
  config.benchmark.batch_sizes = (128,)  # one measurement for each
  config.benchmark.num_seeds = (0,)  # seeds together, such as 1,8,32: one measurement each; 0 is train.num_seeds
  config.benchmark.measurements = 30  # of which the median counts
  return config


def unknown_variant(variant: str, choices: list[str]) -> ValueError:
  """The error for a name after the colon that a config file does not have."""
  return ValueError(f"unknown variant {variant!r}: choose one of {', '.join(choices)}")
