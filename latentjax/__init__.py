"""latentjax: deep latent-variable models of images in JAX (VAE, dense and convolutional Ladder VAE, DRAW)."""

from typing import TYPE_CHECKING

from latentjax._version import __version__ as __version__

if TYPE_CHECKING:
  import os

  from latentjax.inference.trained_model import TrainedModel


def load(workdir: "str | os.PathLike", seed_index: int = 0) -> "TrainedModel":
  """Loads a trained model to encode, decode, sample and score images; its dataset is not needed.

  With `multiprocessing`, start processes by "spawn": JAX, and so the model, hangs in a forked process. A model can be
  pickled.

  Args:
    workdir: Workdir of a run that has trained for at least one epoch, or a directory with its config.json and
      model.npz.
    seed_index: Index, from 0, among the seeds that were trained together.

  Returns:
    The model, on one device.

  Raises:
    TypeError: `workdir` is not a path, or `seed_index` not an integer.
    ValueError: There is no model, or a file is damaged or of a later format.
  """
  from latentjax.inference import trained_model  # imports JAX, which the caller may want to configure first

  return trained_model.load(workdir, seed_index)
