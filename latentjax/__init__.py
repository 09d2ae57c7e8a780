"""latentjax: deep latent-variable models of images in JAX (VAE, dense and convolutional Ladder VAE, DRAW)."""

from typing import TYPE_CHECKING

from latentjax._version import __version__ as __version__

if TYPE_CHECKING:
  import os
  from collections.abc import Callable
  from typing import Any

  import numpy as np
  from ml_collections import ConfigDict
  from numpy.typing import ArrayLike

  from latentjax.inference.pretrained import Pretrained
  from latentjax.inference.trained_model import TrainedModel

__all__ = ["__version__", "load", "pretrained", "sample_digits", "train"]

# Functions import their modules when they are called: these import JAX, which the caller may want to configure first.


def __dir__() -> list[str]:
  return __all__


def load(workdir: "str | os.PathLike", seed_index: int = 0) -> "TrainedModel":
  """Loads a trained model to encode, decode, sample and score images; its dataset is not needed.

  With `multiprocessing`, start processes by "spawn": JAX, and so the model, hangs in a forked process. A model can be
  pickled.

  Args:
    workdir: Workdir of a run that has trained for at least one epoch, a directory with its config.json and
      model.safetensors, or the name of a pretrained model, see `pretrained`.
    seed_index: Index, from 0, among the seeds that were trained together.

  Returns:
    The model, on one device.

  Raises:
    TypeError: `workdir` is not a path, or `seed_index` not an integer.
    ValueError: There is no model, or a file is damaged or of a later format.
  """
  from latentjax.inference import trained_model

  return trained_model.load(workdir, seed_index)


def pretrained() -> "list[Pretrained]":
  """Returns the models that ship with latentjax, which `load` loads by their `name`."""
  from latentjax.inference.pretrained import list_pretrained

  return list_pretrained()


def sample_digits() -> "np.ndarray":
  """Returns 200 binary digits, the first of the test split of MNIST: uint8 [200, 28, 28, 1], 0 or 255.

  They are binarized as for the evaluation of a model of `mnist`, and need no download.
  """
  from latentjax.inference.pretrained import sample_digits

  return sample_digits()


def train(
  config: "str | ConfigDict",
  *,
  images: "ArrayLike | None" = None,
  labels: "ArrayLike | None" = None,
  workdir: "str | os.PathLike | None" = None,
  callback: "Callable[[dict[str, Any]], bool | None] | None" = None,
  **keys: "Any",
) -> "TrainedModel":
  """Trains a model and returns it at its best epoch; a seed gives the same weights as on the command line.

  Signals, the settings of JAX and its compilation cache stay as they are.

  Args:
    config: Config as for --config, such as "draw:demo", or a ConfigDict, which is copied.
    images: Images to train on instead of the config's dataset: [M, H, W] or [M, H, W, C], uint8 from 0 to 255 or floats
      in [0, 1]. A fifth is held out for validation and a fifth for testing, at most 10,000 each.
    labels: Integers [M] of the images, negative if unknown; no model is trained on them.
    workdir: Directory for the files of the run: as by `latentjax train`, with results and pictures, and images.npz with
      `images`. The same call resumes a run there. None leaves no files, and evaluates nothing but the validation split.
    callback: Called after every epoch with its row of metrics.jsonl, a dict; True stops the training.
    **keys: Values by config key, or by its last part if no other key ends in it: epochs=4, or
      ``**{"train.batch_size": 16}``.

  Returns:
    The model, as `load` returns it; of several seeds (`num_seeds`) the first.

  Raises:
    TypeError: A keyword names no config key or several, or an argument has the wrong type.
    ValueError: A value, the images, the data or the workdir cannot be used, or the loss became NaN or infinite.
  """
  from latentjax.training import python_api

  return python_api.train(config, images, labels, workdir, callback, keys)
