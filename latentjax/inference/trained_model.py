"""A trained model that is independent of its data: loading, and the operations of `latentjax.load(...)`.

Shapes: B batch, H W C image, L latent groups (1 for a VAE, layers for a Ladder VAE, steps for DRAW), Z_l latents of a
group, T steps.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax.serialization import from_state_dict, to_state_dict
from ml_collections import ConfigDict

from latentjax import models
from latentjax.config.schema import single_seed_config
from latentjax.data.preprocessing import to_pixels
from latentjax.inference import evaluation
from latentjax.inference.functions import InferenceFns, compile_method, create_inference_fns
from latentjax.models.base import Model, Variables
from latentjax.models.draw.model import Drawing
from latentjax.runtime import distributed
from latentjax.runtime.console import console
from latentjax.runtime.errors import RunError, UsageError
from latentjax.runtime.rng import RngStreams, create_rng_streams
from latentjax.workdir import weights
from latentjax.workdir.run import Run

BATCH_SIZE = 500  # images per call: bounds memory, and larger inputs compile only once


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class TrainedModel:
  """The model of one seed with its trained weights.

  Images are [H, W], [B, H, W] or [B, H, W, C], uint8 or floats in [0, 1]; results are NumPy arrays. Every method is
  compiled once per input shape. A model trained on binary pixels expects binary images: binarise them before reporting
  a likelihood.

  Attributes:
    config: Config of the run; with several seeds, the equivalent config of this one.
    model: The Linen module.
    inference: Compiled functions of the model.
    keys: Random streams of the seed, used by the commands.
    variables: Weights (averaged, if the run averages them) and batch-norm statistics.
    step: Training step of the weights.
  """

  config: ConfigDict
  model: Model
  inference: InferenceFns
  keys: RngStreams
  variables: Variables
  step: int

  def __repr__(self) -> str:
    return f"<latentjax model: {models.display_name(self.config.model)}, images {self.image_shape}>"

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """(H, W, C)."""
    return tuple(self.model.image_shape)

  @cached_property
  def latent_dims(self) -> tuple[int, ...]:
    """Z_l of every latent group."""
    blank = jax.ShapeDtypeStruct((1, *self.image_shape), np.float32)
    return tuple(group.shape[-1] for group in jax.eval_shape(self.inference.encode, self.variables, blank))

  def encode(self, images) -> tuple[np.ndarray, ...]:
    """Returns L arrays [B, Z_l]: posterior means in units of the prior, (mean_q - mean_p) / std_p."""
    return tuple(evaluation.encode(self.inference, self.variables, self._check_images(images), BATCH_SIZE))

  def decode(self, latents: Sequence) -> np.ndarray:
    """Returns pixel means [B, H, W, C] for latents in units of the prior, as returned by `encode`."""
    return evaluation.decode(self.inference, self.variables, self._check_latents(latents), BATCH_SIZE)

  def reconstruct(self, images) -> np.ndarray:
    """Returns pixel means [B, H, W, C] given the posterior means of images."""
    return self.decode(self.encode(images))

  def sample(self, num_samples: int, seed: int = 0) -> np.ndarray:
    """Returns pixel means [num_samples, H, W, C] of prior samples; deterministic given `seed`."""
    return np.asarray(self.inference.sample(self.variables, _key(seed), _positive("num_samples", num_samples)))

  def elbo(self, images, seed: int = 0) -> np.ndarray:
    """Returns [B] in nats: log p(x|z) - KL(q || p) of each image with one posterior sample."""
    log_px, kl = evaluation.per_image_terms(
      self.inference, self.variables, self._check_images(images), _key(seed), BATCH_SIZE
    )
    return log_px - kl.sum(-1)

  def log_likelihood(self, images, num_samples: int = 100, seed: int = 0) -> np.ndarray:
    """Returns [B] in nats: log 1/K sum_k p(x, z_k)/q(z_k | x), K = num_samples, a lower bound of log p(x) on average.

    High likelihood does not imply that an image is in-distribution. Never report likelihoods of training images; all
    images of `mnist_digits` are in the training or validation set of MNIST.
    """
    sample_counts, images = [_positive("num_samples", num_samples)], self._check_images(images)
    estimates = evaluation.log_likelihoods(
      self.inference, self.variables, images, _key(seed), BATCH_SIZE, sample_counts, report=lambda count: None
    )
    return estimates[0]

  def draw(self, images, seed: int = 0) -> Drawing:
    """Returns DRAW's reconstruction step by step: canvases [T, B, H, W, C], and read and write windows, fields [T, B].

    Raises:
      TypeError: The model is not DRAW.
    """
    draw = self._draw_method("draw")
    return jax.device_get(draw(self.variables, to_pixels(jnp.asarray(self._check_images(images))), _key(seed)))

  def dream(self, num_samples: int, seed: int = 0) -> Drawing:
    """Returns DRAW's prior samples step by step; see `draw`. There are no read windows."""
    dream = self._draw_method("dream")
    return jax.device_get(dream(self.variables, _key(seed), _positive("num_samples", num_samples)))

  def on_one_device(self) -> "TrainedModel":
    """Returns a copy on one local device, for batches too small to shard."""
    if self.inference.num_devices == 1:
      return self
    inference = create_inference_fns(self.config, self.model)
    return dataclasses.replace(self, inference=inference, variables=distributed.first_shard(self.variables))

  @cached_property
  def _draw_methods(self) -> dict[str, Callable]:
    return {
      "draw": compile_method(self.config, self.model, "draw"),
      "dream": compile_method(self.config, self.model, "dream", static=2),
    }

  def _draw_method(self, name: str) -> Callable:
    if not hasattr(self.model, name):
      raise TypeError(f"{name}() requires a DRAW model. This is a {models.display_name(self.config.model)}.")
    return self._draw_methods[name]

  def _check_images(self, images) -> np.ndarray:
    """Returns images as [B, H, W, C], uint8 or float32.

    Raises:
      TypeError: They are neither uint8, bool nor floats.
      ValueError: They have another shape, or values outside [0, 1].
    """
    try:
      images = np.asarray(images)
    except ValueError:
      raise ValueError("images have different shapes. Pass one array.") from None
    if images.dtype not in (np.uint8, bool) and not np.issubdtype(images.dtype, np.floating):
      raise TypeError(f"images have dtype {images.dtype}. Pass uint8 from 0 to 255 or floats from 0 to 1.")
    height, width, channels = self.image_shape
    shape = images.shape
    if images.ndim == 2:
      images = images[None]
    if images.ndim == 3:
      images = images[..., None]
    if images.shape[1:] != self.image_shape:
      flat = "[H, W], [B, H, W] or " if channels == 1 else ""
      raise ValueError(
        f"images have shape {shape}. Pass {flat}[B, H, W, C] with H, W, C = {height}, {width}, {channels}."
      )
    if not len(images):
      raise ValueError(f"images are empty, of shape {shape}. Pass at least one image.")
    if images.dtype == np.uint8:
      if images.max() == 1:
        raise ValueError("uint8 images have values 0 and 1 only. Pass bool or float, or scale them to 0 to 255.")
      return images
    if images.dtype == bool:
      return images.astype(np.float32)
    if not ((images >= 0) & (images <= 1)).all():  # also false for NaN
      raise ValueError(f"float images have values in [{images.min():g}, {images.max():g}]. Scale them to [0, 1].")
    return images.astype(np.float32)

  def _check_latents(self, latents: Sequence) -> list[np.ndarray]:
    """Returns L float32 arrays [B, Z_l].

    Raises:
      TypeError: They are not a sequence of numeric arrays.
      ValueError: They have other shapes, are empty, or are not finite.
    """
    expected = "a sequence of arrays [B, Z], one per group, as returned by encode"
    if isinstance(latents, str) or not isinstance(latents, Iterable) or getattr(latents, "ndim", 3) != 3:
      raise TypeError(f"latents must be {expected}.")
    try:
      groups = [np.asarray(group, np.float32) for group in latents]
    except (TypeError, ValueError):
      raise TypeError(f"latents must be numeric: {expected}.") from None
    shapes, batch_sizes = [group.shape for group in groups], {len(group) for group in groups if group.ndim}
    if [shape[1:] for shape in shapes] != [(size,) for size in self.latent_dims] or len(batch_sizes) != 1:
      dims = _format_values(self.latent_dims)
      raise ValueError(f"latents have shapes {_format_values(shapes)}. Pass {expected}, with Z = {dims}.")
    if not all(np.isfinite(group).all() for group in groups):
      raise ValueError("latents must be finite.")
    if not len(groups[0]):
      raise ValueError(f"latents are empty, of shapes {_format_values(shapes)}. Pass those of at least one image.")
    return groups


def load_first_seed(run: Run) -> TrainedModel:
  """Loads the first seed's model, see `load_seed`; prints its seed, and a note if results.json is of another step."""
  loaded, results = first_seed(load_seed(run.config, run.workdir), run), run.results
  evaluated = next(iter(results["seeds"].values())) if results and "seeds" in results else results
  if evaluated and evaluated.get("step", loaded.step) != loaded.step:
    console.print(
      f"{run.workdir / 'results.json'} belongs to another epoch than the model. Run --mode=evaluate to update it."
    )
  return loaded


def first_seed(loaded: TrainedModel, run: Run) -> TrainedModel:
  """Returns the model of a run's first seed on one device; prints its seed if there are several."""
  if len(run.seeds) > 1:
    console.print(f"Using seed {run.seeds[0]}, the first of {len(run.seeds)}.")
  return loaded.on_one_device()


def load_seed(config: ConfigDict, workdir: Path, index: int = 0) -> TrainedModel:
  """Loads one seed's model from the workdir's model.npz, on one device.

  Args:
    config: Config of the workdir; its seed determines what is sampled from the model.
    index: Index among the seeds that were trained together.

  Raises:
    UsageError: There is no model.npz.
    RunError: It is damaged, of a later format, or does not match the config.
  """
  saved = weights.read_weights(workdir)
  if saved is None:
    remedy = "Run --mode=train; it writes one after its first epoch."
    if any((workdir / "checkpoints").glob("[0-9]*")):
      remedy = "Run --mode=evaluate; it writes one from the checkpoints."
    raise UsageError(f"No trained model in {workdir} ({weights.WEIGHTS_NAME} is missing). {remedy}")
  config = single_seed_config(config, index)
  model = models.create_model(config.model, saved.image_shape)
  shapes = variable_shapes(model)
  if index >= len(saved.steps) or weights.describe(to_state_dict(shapes), 0) != weights.describe(saved.variables, 1):
    raise RunError(
      f"{workdir / weights.WEIGHTS_NAME} does not match {workdir / 'config.json'}. Run --mode=evaluate to rewrite it."
    )
  variables = from_state_dict(shapes, jax.tree.map(lambda x: jnp.asarray(x[index]), saved.variables))
  return TrainedModel(
    config, model, create_inference_fns(config, model), create_rng_streams(config), variables, saved.steps[index]
  )


def variable_shapes(model: Model) -> Variables:
  """Returns shapes and dtypes of a model's variables."""

  def init(init_key, sample_key):
    return {"batch_stats": {}} | model.init(init_key, jnp.zeros((1, *model.image_shape)), sample_key)

  return jax.eval_shape(init, *jax.random.split(jax.random.key(0)))


def _format_values(values: Sequence) -> str:
  """Returns the values as text; equal ones as one value and their number."""
  same = len(values) > 1 and len(set(values)) == 1
  return f"{values[0]} in each of {len(values)}" if same else ", ".join(map(str, values)) or "none"


def _key(seed: int) -> jax.Array:
  if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
    raise TypeError(f"seed must be an integer, not {seed!r}.")
  if not 0 <= seed < 2**32:
    raise ValueError(f"seed must be from 0 to 4294967295, not {seed}.")
  return jax.random.key(seed)


def _positive(name: str, count: int) -> int:
  if isinstance(count, bool) or not isinstance(count, int | np.integer):
    raise TypeError(f"{name} must be an integer, not {count!r}.")
  if count < 1:
    raise ValueError(f"{name} must be at least 1, not {count}.")
  return int(count)
