"""Training from Python."""

import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from latentjax import models
from latentjax.config.files import load_config, plain_config
from latentjax.config.schema import flatten, nearest_key
from latentjax.data.dataset import create_dataset
from latentjax.data.npz_arrays import array_splits
from latentjax.inference import trained_model
from latentjax.inference.trained_model import TrainedModel
from latentjax.runtime import distributed
from latentjax.runtime.errors import RunError, UsageError
from latentjax.runtime.fileio import write_atomic
from latentjax.runtime.jax_settings import pinned_settings
from latentjax.runtime.signals import GracefulShutdown
from latentjax.training import session
from latentjax.workdir.directory import parse_workdir
from latentjax.workdir.protocol import MetricsRow

IMAGES_NAME = "images.npz"  # in the workdir of a run on images that were passed
OTHER_SECTIONS = ("benchmark", "encode")  # of keys without effect on a training


@pinned_settings()
def train(
  config: str | ConfigDict,
  images: Any,
  labels: Any,
  workdir: str | os.PathLike | None,
  callback: Callable[[MetricsRow], bool | None] | None,
  changes: Mapping[str, Any],
) -> TrainedModel:
  """Implements `latentjax.train`."""
  if not isinstance(config, str | ConfigDict):
    raise TypeError(f"config must be a name such as 'draw:demo' or a ConfigDict, not {config!r}.")
  if not isinstance(workdir, str | os.PathLike | None):
    raise TypeError(f"workdir must be a path, not {workdir!r}.")
  if not (callback is None or callable(callback)):
    raise TypeError(f"callback must be a function, not {callback!r}.")
  if images is None and labels is not None:
    raise TypeError("labels belong to images. Pass both.")
  try:
    config = load_config(config).config if isinstance(config, str) else plain_config(config)
    values = {_full_key(config, name, value): value for name, value in changes.items()}
    if images is not None and "data.name" in values:
      raise TypeError("images take the place of data.name. Pass one of the two.")
    config = models.override(config, values)
    given = None if workdir is None else parse_workdir(os.fspath(workdir))
    with TemporaryDirectory(prefix="latentjax-") if given is None else nullcontext(given) as directory:
      return _train(config, images, labels, Path(directory), given is None, callback)
  except (UsageError, RunError) as error:
    raise ValueError(str(error)) from None


def _train(
  config: ConfigDict, images: Any, labels: Any, workdir: Path, temporary: bool, callback: Callable | None
) -> TrainedModel:
  if images is None:
    session.train(config, workdir, GracefulShutdown(), None, callback, weights_only=temporary)
  else:
    splits, path = array_splits(images, labels, config.data.image_size), (workdir / IMAGES_NAME).resolve()
    config.data.name = "images" if temporary else str(path)
    data = create_dataset(config.data.name, splits, config.data.binarization)
    session.train(config, workdir, GracefulShutdown(), data, callback, weights_only=temporary)
    if not temporary and not path.exists():  # afterwards: the images are then known to be those of the run
      distributed.on_process_zero(lambda: write_atomic(path, lambda file: np.savez(file, **splits)))
  return trained_model.load(workdir, 0)


def _full_key(config: ConfigDict, name: str, value: Any) -> str:
  """Returns the config key of a keyword, which may be its last part; raises TypeError if none or several match."""
  known = flatten(config.to_dict())
  own = [key for key in known if key.partition(".")[0] not in OTHER_SECTIONS and key.rpartition(".")[2] == name]
  if name in known or len(own) == 1:
    return name if name in known else own[0]
  if own:
    near = nearest_key(name, models.config_keys(config.model.name))
    raise TypeError(f"{name} may mean {' or '.join(own)}. Pass one of them, such as **{{{near!r}: {value!r}}}.")
  raise TypeError(models.unknown_key(config, [name]))
