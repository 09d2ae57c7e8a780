"""latentjax: deep latent-variable models of images, in space and in time."""

from typing import TYPE_CHECKING

from latentjax._version import __version__ as __version__

if TYPE_CHECKING:
  import os

  from latentjax.inference.api import LoadedModel


def load(workdir: "str | os.PathLike", seed_index: int = 0) -> "LoadedModel":
  """A trained model, to encode, decode, sample and score images with; its data set is not needed.

  Args:
    workdir: of a run that has trained for an epoch, or a folder with its config.json and model.npz.
    seed_index: which of the seeds trained together, from 0.

  Raises:
    ValueError: there is no model, or a file is damaged or of a later format. TypeError: seed_index is no whole number.
  """
  from latentjax.inference.api import load as load_model  # imports JAX, which a person may want to configure first

  return load_model(workdir, seed_index)
