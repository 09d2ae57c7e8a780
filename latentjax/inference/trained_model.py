"""A trained model that is independent of its data: loading, and the operations of `latentjax.load(...)`.

Shapes: B batch, H W C image, L latent groups (1 for a VAE, layers for a ladder, steps for DRAW), Z_l latents of a
group, T steps.
"""

import dataclasses
import os
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from flax.serialization import from_state_dict, to_state_dict
from ml_collections import ConfigDict

from latentjax import models
from latentjax.config.schema import single_seed_config
from latentjax.data.base import as_pixels
from latentjax.data.preprocessing import to_pixels
from latentjax.inference import evaluation, pretrained
from latentjax.inference.functions import InferenceFns, create_inference_fns
from latentjax.models.base import Model, Variables
from latentjax.models.draw.model import Drawing
from latentjax.runtime import distributed
from latentjax.runtime.console import console
from latentjax.runtime.errors import RunError, UsageError
from latentjax.runtime.fileio import expand_user
from latentjax.runtime.jax_settings import pinned_settings
from latentjax.runtime.precision import at_precision
from latentjax.runtime.rng import RngStreams, create_key, create_rng_streams
from latentjax.workdir import records, weights

if TYPE_CHECKING:  # else `latentjax.load` would import tensorboardX
  from latentjax.workdir.run import Run

BATCH_SIZE = 500  # images per call: bounds memory, and larger inputs compile only once


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class TrainedModel:
  """The model of one seed with its trained weights.

  Images are [H, W], [B, H, W] or [B, H, W, C], uint8 or floats in [0, 1]; results are NumPy arrays. Every method is
  compiled once per input shape. A model trained on binary pixels expects binary images: binarize them before reporting
  a likelihood.
  """

  config: ConfigDict  # of the run; with several seeds, the equivalent config of this one
  model: Model
  inference: InferenceFns
  keys: RngStreams  # of the seed, used by the commands
  variables: Variables  # weights (averaged, if the run averages them) and batch-norm statistics
  step: int  # of the weights

  def __repr__(self) -> str:
    return f"<latentjax model: {models.display_name(self.config.model)}, images {self.image_shape}>"

  def __reduce__(self) -> tuple:
    """Pickles the weights without the compiled functions, which a new process compiles again."""
    return _create, (self.config, self.model, self.variables, self.step)

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """(H, W, C)."""
    return tuple(self.model.image_shape)

  @cached_property
  @pinned_settings()
  def latent_dims(self) -> tuple[int, ...]:
    """Z_l of every latent group."""
    blank = jax.ShapeDtypeStruct((1, *self.image_shape), np.float32)
    return tuple(group.shape[-1] for group in jax.eval_shape(self.inference.encode, self.variables, blank))

  @pinned_settings()
  def encode(self, images) -> tuple[np.ndarray, ...]:
    """Returns L arrays [B, Z_l]: posterior means in units of the prior, (mean_q - mean_p) / std_p."""
    return tuple(evaluation.encode(self.inference, self.variables, self._check_images(images), BATCH_SIZE))

  @pinned_settings()
  def decode(self, latents: Sequence) -> np.ndarray:
    """Returns pixel means [B, H, W, C] for latents in units of the prior, as returned by `encode`."""
    return evaluation.decode(self.inference, self.variables, self._check_latents(latents), BATCH_SIZE)

  @pinned_settings()
  def reconstruct(self, images) -> np.ndarray:
    """Returns pixel means [B, H, W, C] given the posterior means of images."""
    return self.decode(self.encode(images))

  @pinned_settings()
  def sample(self, num_samples: int, seed: int = 0) -> np.ndarray:
    """Returns pixel means [num_samples, H, W, C] of prior samples; deterministic given `seed`."""
    return np.asarray(self.inference.sample(self.variables, _key(seed), _check_count(num_samples)))

  @pinned_settings()
  def elbo(self, images, seed: int = 0) -> np.ndarray:
    """Returns [B] in nats: log p(x|z) - KL(q || p) of each image with one posterior sample."""
    images, key = self._check_images(images), _key(seed)
    log_px, kl = evaluation.per_image_terms(self.inference, self.variables, images, key, BATCH_SIZE)
    return log_px - kl.sum(-1)

  @pinned_settings()
  def log_likelihood(self, images, num_samples: int = 100, seed: int = 0) -> np.ndarray:
    """Returns [B] in nats: log 1/K sum_k p(x, z_k)/q(z_k | x), K = num_samples, a lower bound of log p(x) on average.

    High likelihood does not imply that an image is in-distribution. Never report likelihoods of training images; all
    images of `mnist_digits` are in the training or validation set of MNIST.
    """
    args = self.inference, self.variables, self._check_images(images), _key(seed), BATCH_SIZE
    return evaluation.log_likelihoods(*args, [_check_count(num_samples)], report=lambda count: None)[0]

  @pinned_settings()
  def draw(self, images, seed: int = 0) -> Drawing:
    """Returns DRAW's reconstruction by step: canvases [T, B, H, W, C], and read and write windows, fields [T, B]."""
    draw, _ = self._draw_methods
    return jax.device_get(draw(self.variables, to_pixels(jnp.asarray(self._check_images(images))), _key(seed)))

  @pinned_settings()
  def dream(self, num_samples: int, seed: int = 0) -> Drawing:
    """Returns DRAW's prior samples by step; see `draw`. There are no read windows."""
    _, dream = self._draw_methods
    return jax.device_get(dream(self.variables, _key(seed), _check_count(num_samples)))

  @cached_property
  def _draw_methods(self) -> tuple[Callable, Callable]:
    """Compiled methods `draw` and `dream`, which only DRAW has."""
    if not hasattr(self.model, "dream"):
      raise TypeError(f"draw() and dream() need a DRAW model. This is a {models.display_name(self.config.model)}.")
    draw, dream = (at_precision(self.config.precision, partial(self.model.apply, method=m)) for m in ("draw", "dream"))
    return jax.jit(draw), jax.jit(dream, static_argnums=2)

  def _check_images(self, images) -> np.ndarray:
    """Returns images as [B, H, W, C], uint8 or float32; raises TypeError or ValueError if they are unusable."""
    images = as_pixels(images)
    shape = images.shape
    if images.ndim == 2:
      images = images[None]
    if images.ndim == 3:
      images = images[..., None]
    if images.shape[1:] != self.image_shape or not len(images):
      sizes = ", ".join(map(str, self.image_shape))
      raise ValueError(f"images have shape {shape}. Pass at least one, as [B, H, W, C] with H, W, C = {sizes}.")
    if images.dtype == np.uint8 and images.max() == 1:
      raise ValueError("uint8 images have values 0 and 1 only. Pass bool or float, or scale them to 0 to 255.")
    return images

  def _check_latents(self, latents: Sequence) -> list[np.ndarray]:
    """Returns L float32 arrays [B, Z_l]; raises TypeError or ValueError if they are unusable."""
    expected = "a sequence of arrays [B, Z], one per group, as returned by encode"
    try:
      groups = [np.asarray(group, np.float32) for group in latents]
    except (TypeError, ValueError):
      raise TypeError(f"latents must be {expected}.") from None
    shapes, batch = [group.shape for group in groups], groups[0].shape[:1] if groups else ()
    if 0 in batch or shapes != [(*batch, size) for size in self.latent_dims]:
      dims = ", ".join(map(str, self.latent_dims))
      raise ValueError(f"latents do not fit. Pass {expected}, with Z = {dims}, for at least one image.")
    if not all(np.isfinite(group).all() for group in groups):
      raise ValueError("latents must be finite.")
    return groups


@pinned_settings()
def load(workdir: str | os.PathLike, seed_index: int) -> TrainedModel:
  """Implements `latentjax.load`."""
  if not isinstance(workdir, str | os.PathLike):
    raise TypeError(f"workdir must be a path, not {workdir!r}.")
  try:
    path = expand_user(workdir)
    workdir = path if (path / "config.json").is_file() else pretrained.find(str(path))
    if workdir is None:
      shipped = ", ".join(pretrained.names()) or "none is installed"
      advice = f"Pass a workdir that `latentjax train` has written, or the name of a pretrained model ({shipped})."
      raise ValueError(f"No run in {path} (config.json is missing). {advice}")
    config = records.read_config(workdir)
    return load_seed(config, workdir, _check_integer("seed_index", seed_index, 0, config.train.num_seeds - 1))
  except (UsageError, RunError) as error:
    raise ValueError(str(error)) from None


def load_first_seed(run: "Run") -> TrainedModel:
  """Loads the first seed's model, see `load_seed`; prints its seed, and a note if results.json is of another step."""
  loaded, results = first_seed(load_seed(run.config, run.workdir), run), run.results
  evaluated = next(iter(results["seeds"].values())) if results and "seeds" in results else results
  if evaluated and evaluated.get("step", loaded.step) != loaded.step:
    console.print(
      f"{run.workdir / 'results.json'} belongs to another epoch than the model. Run `latentjax evaluate` to update it."
    )
  return loaded


def first_seed(loaded: TrainedModel, run: "Run") -> TrainedModel:
  """Returns the model of a run's first seed on one local device; prints its seed if there are several."""
  if len(run.seeds) > 1:
    console.print(f"Using seed {run.seeds[0]}, the first of {len(run.seeds)}.")
  if loaded.inference.num_devices == 1:
    return loaded
  inference = create_inference_fns(loaded.config, loaded.model)
  return dataclasses.replace(loaded, inference=inference, variables=distributed.first_shard(loaded.variables))


def load_seed(config: ConfigDict, workdir: Path, index: int = 0) -> TrainedModel:
  """Loads the model of a workdir's seed from its weights file, on one device; the config is that of the workdir.

  Raises:
    UsageError: There is no such file.
    RunError: It is damaged, of a later format, or does not match the config.
  """
  path = workdir / weights.weights_name(config.train.num_seeds, index)
  saved = weights.read_weights(path)
  if saved is None:
    remedy = "Run `latentjax train`, which writes it after an epoch, or `latentjax evaluate` if there are checkpoints."
    raise UsageError(f"No trained model in {workdir} ({path.name} is missing). {remedy}")
  config = single_seed_config(config, index)
  model = models.create_model(config.model, saved.image_shape)
  shapes = variable_shapes(model)
  if weights.describe(to_state_dict(shapes)) != weights.describe(saved.variables):
    raise RunError(f"{path} does not match {workdir / 'config.json'}. Run `latentjax evaluate` to rewrite it.")
  return _create(config, model, from_state_dict(shapes, jax.tree.map(jnp.asarray, saved.variables)), saved.step)


@pinned_settings()
def _create(config: ConfigDict, model: Model, variables: Variables, step: int) -> TrainedModel:
  inference, keys = create_inference_fns(config, model), create_rng_streams(config)
  return TrainedModel(config, model, inference, keys, variables, step)


def variable_shapes(model: Model) -> Variables:
  """Returns shapes and dtypes of a model's variables."""

  def init(init_key, sample_key):
    return {"batch_stats": {}} | model.init(init_key, jnp.zeros((1, *model.image_shape)), sample_key)

  return jax.eval_shape(init, *jax.random.split(jax.random.key(0)))


def _key(seed: int) -> jax.Array:
  return create_key(_check_integer("seed", seed, 0, 2**32 - 1))


def _check_count(num_samples: int) -> int:
  return _check_integer("num_samples", num_samples, 1, 2**31 - 1)


def _check_integer(name: str, value: int, lowest: int, highest: int) -> int:
  """Returns an argument as an int; raises TypeError if it is none, and ValueError if it is out of range."""
  if isinstance(value, bool) or not isinstance(value, int | np.integer):
    raise TypeError(f"{name} must be an integer, not {value!r}.")
  if not lowest <= value <= highest:
    raise ValueError(f"{name} must be from {lowest} to {highest}, not {value}.")
  return int(value)
