"""A trained model in Python: arrays in, arrays out; see `latentjax.load`.

Shapes: B images, H W C image, L latent groups (1 for a VAE, layers for a Ladder VAE, steps for DRAW), Z_l latents of a
group, T steps. Images are [H, W], [B, H, W] or [B, H, W, C], uint8 or floats in [0, 1]; results are NumPy's.
"""

import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from latentjax import models
from latentjax.data.preprocessing import to_pixels
from latentjax.inference import evaluation
from latentjax.inference.functions import compile_method
from latentjax.inference.trained_model import TrainedModel, load_seed
from latentjax.models.draw.model import Drawing
from latentjax.runtime.errors import RunError, UsageError
from latentjax.runtime.fileio import expand_user
from latentjax.workdir import records

BATCH_SIZE = 500  # images at a time: bounds memory, and every larger number of images needs but one compilation


class LoadedModel:
  """What a trained model can be asked. Each function is compiled once for every shape that it meets.

  A model that was trained on binary pixels has seen nothing between 0 and 1: give it images that are binary, too,
  where a number is to be reported.

  Attributes:
    config: of the run; where it trained several seeds that of this one.
    image_shape: (H, W, C).
    latent_dims: Z_l of every group.
  """

  def __init__(self, trained: TrainedModel):
    self._trained = trained
    self.config: ConfigDict = trained.config
    self.image_shape: tuple[int, int, int] = tuple(trained.model.image_shape)

  def __repr__(self) -> str:
    return f"<latentjax model: {models.display_name(self.config.model)}, images {self.image_shape}>"

  @cached_property
  def latent_dims(self) -> tuple[int, ...]:
    return self._trained.latent_dims

  def encode(self, images) -> tuple[np.ndarray, ...]:
    """L arrays [B, Z_l]: posterior means in units of the prior, (mean_q - mean_p) / std_p."""
    return tuple(evaluation.encode(self._inference, self._variables, self._checked(images), BATCH_SIZE))

  def decode(self, latents: Sequence) -> np.ndarray:
    """[B, H, W, C] pixel means for latents in units of the prior, as `encode` gives them."""
    wanted = "a sequence of arrays [B, Z], one for each group, as encode returns them"
    if isinstance(latents, str) or not isinstance(latents, Iterable) or getattr(latents, "ndim", 3) != 3:
      raise TypeError(f"latents must be {wanted}")
    try:
      groups = [np.asarray(group, np.float32) for group in latents]
    except (TypeError, ValueError):
      raise TypeError(f"latents must be {wanted}, of numbers") from None
    shapes, sizes = [group.shape for group in groups], {len(group) for group in groups if group.ndim}
    if [shape[1:] for shape in shapes] != [(size,) for size in self.latent_dims] or len(sizes) != 1:
      raise ValueError(f"latents must be {wanted}: Z is {format_values(self.latent_dims)}; not {format_values(shapes)}")
    if not all(np.isfinite(group).all() for group in groups):
      raise ValueError("latents must be finite numbers")
    if not len(groups[0]):
      raise ValueError(f"latents must be of at least one image, not {shapes}")
    return evaluation.decode(self._inference, self._variables, groups, BATCH_SIZE)

  def reconstruct(self, images) -> np.ndarray:
    """[B, H, W, C] pixel means given the posterior means of images."""
    return self.decode(self.encode(images))

  def sample(self, num_samples: int, seed: int = 0) -> np.ndarray:
    """[num_samples, H, W, C] pixel means for latents from the prior; the same seed gives the same samples."""
    return np.asarray(self._inference.sample(self._variables, key(seed), positive("num_samples", num_samples)))

  def elbo(self, images, seed: int = 0) -> np.ndarray:
    """[B] nats: log p(x|z) - KL(q || p) of each image with one posterior sample."""
    log_px, kl = evaluation.per_image_terms(
      self._inference, self._variables, self._checked(images), key(seed), BATCH_SIZE
    )
    return log_px - kl.sum(-1)

  def log_likelihood(self, images, num_samples: int = 100, seed: int = 0) -> np.ndarray:
    """[B] nats: log 1/K sum_k p(x, z_k)/q(z_k | x), K = num_samples: on average a lower bound of log p(x).

    A high likelihood is no proof that an image is like those that the model was trained on, and none of images that it
    was trained on is a result: all of `mnist_digits` are among MNIST's training and validation images.
    """
    kept = [positive("num_samples", num_samples)]
    estimates = evaluation.log_likelihoods(
      self._inference, self._variables, self._checked(images), key(seed), BATCH_SIZE, kept, report=lambda count: None
    )
    return estimates[0]

  def draw(self, images, seed: int = 0) -> Drawing:
    """How DRAW draws images again: canvases [T, B, H, W, C], and the windows that read and wrote, fields [T, B].

    Raises:
      TypeError: the model is not a DRAW.
    """
    draw = self._method_of_draw("draw")
    return jax.device_get(draw(self._variables, to_pixels(jnp.asarray(self._checked(images))), key(seed)))

  def dream(self, num_samples: int, seed: int = 0) -> Drawing:
    """How DRAW draws from the prior, as `draw` without a window that reads."""
    dream = self._method_of_draw("dream")
    return jax.device_get(dream(self._variables, key(seed), positive("num_samples", num_samples)))

  @property
  def _inference(self):
    return self._trained.inference

  @property
  def _variables(self):
    return self._trained.variables

  @cached_property
  def _methods(self) -> dict[str, Any]:
    config, model = self.config, self._trained.model
    return {"draw": compile_method(config, model, "draw"), "dream": compile_method(config, model, "dream", static=2)}

  def _method_of_draw(self, name: str):
    if not hasattr(self._trained.model, name):
      raise TypeError(f"{name}() needs a DRAW, and this is a {models.display_name(self.config.model)}")
    return self._methods[name]

  def _checked(self, images) -> np.ndarray:
    """Images as [B, H, W, C], uint8 or float32.

    Raises:
      TypeError: they are neither uint8 nor floats.
      ValueError: they have another shape, or values outside [0, 1].
    """
    try:
      images = np.asarray(images)
    except ValueError:
      raise ValueError("images must be one array: these have different shapes") from None
    if images.dtype not in (np.uint8, bool) and not np.issubdtype(images.dtype, np.floating):
      raise TypeError(f"images must be uint8 from 0 to 255 or floats from 0 to 1, not {images.dtype}")
    height, width, channels = self.image_shape
    shape = images.shape
    if images.ndim == 2:
      images = images[None]
    if images.ndim == 3:
      images = images[..., None]
    if images.shape[1:] != self.image_shape:
      flat = " [H, W], [B, H, W] or" if channels == 1 else ""
      raise ValueError(f"images must be{flat} [B, H, W, C] with H, W, C = {height}, {width}, {channels}, not {shape}")
    if not len(images):
      raise ValueError(f"images must be at least one, not {shape}")
    if images.dtype == np.uint8:
      if images.max() == 1:
        raise ValueError("uint8 images go from 0 to 255, and these from 0 to 1: give them as bool or as floats")
      return images
    if images.dtype == bool:
      return images.astype(np.float32)
    if not ((images >= 0) & (images <= 1)).all():  # which NaN is not, either
      raise ValueError(f"float images must lie in [0, 1]; these lie in [{images.min():g}, {images.max():g}]")
    return images.astype(np.float32)


def load(workdir: str | Path, seed_index: int = 0) -> LoadedModel:
  """As `latentjax.load`."""
  if not isinstance(workdir, str | os.PathLike):
    raise TypeError(f"a workdir is a path, not {workdir!r}")
  if jax.config.jax_enable_x64:
    raise ValueError("latentjax computes in float32: switch jax_enable_x64 off")
  try:
    workdir = expand_user(workdir)
    if not (workdir / "config.json").is_file():
      raise UsageError(f"{workdir} is no run: give its workdir, or a folder with its config.json and model.npz")
    config = records.read_config(workdir)
    if isinstance(seed_index, bool) or not isinstance(seed_index, int | np.integer):
      raise TypeError(f"seed_index must be a whole number, not {seed_index!r}")
    if not 0 <= seed_index < config.train.num_seeds:
      last = config.train.num_seeds - 1
      raise UsageError(
        f"{workdir} has {last + 1} seed{'s' if last else ''}: seed_index must be {f'0 to {last}' if last else '0'}"
      )
    return LoadedModel(load_seed(config, workdir, seed_index))
  except (UsageError, RunError) as error:
    raise ValueError(str(error)) from None


def format_values(values: Sequence) -> str:
  """The values as text; many that are the same as one with their number."""
  same = len(values) > 1 and len(set(values)) == 1
  return f"{values[0]} in each of {len(values)}" if same else ", ".join(map(str, values)) or "none"


def key(seed: int) -> jax.Array:
  if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
    raise TypeError(f"seed must be a whole number, not {seed!r}")
  if not 0 <= seed < 2**32:
    raise ValueError(f"seed must be from 0 to 4294967295, not {seed}")
  return jax.random.key(seed)


def positive(name: str, count: int) -> int:
  if isinstance(count, bool) or not isinstance(count, int | np.integer):
    raise TypeError(f"{name} must be a whole number, not {count!r}")
  if count < 1:
    raise ValueError(f"{name} must be at least 1, not {count}")
  return int(count)
