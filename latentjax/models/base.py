"""Interface of a model, a base for models with a `Likelihood`, and the pictures that a model can draw."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from latentjax.config.schema import key, one_of
from latentjax.models.distributions import Gaussian, standard_normals
from latentjax.models.elbo import ELBOTerms
from latentjax.models.likelihoods import LIKELIHOODS, Likelihood

GRID_SIDE = 6  # samples per side of a grid of `held_layers`
MAX_MIXTURE_HEAD = 2**24  # weights of a dense output layer: enough for 512 units and 28 x 28 gray pixels
Params = dict[str, Any]
Variables = dict[str, Params]


def num_parameters(params: Params) -> int:
  """Returns the number of parameters of one seed."""
  return sum(leaf.size for leaf in jax.tree.leaves(params))


def likelihood_key(one_param_per_value: bool = False) -> str:
  """Returns the field `likelihood` of a model, optionally only of likelihoods with one parameter per channel value."""
  names = [name for name, each in LIKELIHOODS.items() if not one_param_per_value or each.params_per_pixel(1) == 1]
  choices = one_of(*names)
  if one_param_per_value:
    choices = choices._replace(text=f"{choices.text} (the canvas has one parameter per channel value)")
  return key("bernoulli", choices, "distribution of pixels; all others than bernoulli: of 256 values")


def dense_head_problem(fields: Mapping[str, Any], image_shape: tuple[int, int, int] | None) -> str | None:
  """Returns an error message if a dense output layer on `hidden_dims[0]` units would be too large, else None."""
  likelihood = LIKELIHOODS[fields["likelihood"]]
  if image_shape is None or likelihood.params_per_pixel(1) == 1:
    return None
  height, width, channels = image_shape
  size = fields["hidden_dims"][0] * height * width * likelihood.params_per_pixel(channels)
  if size <= MAX_MIXTURE_HEAD:
    return None
  return (
    f"model.likelihood = {fields['likelihood']!r} needs a dense output layer of {size:,} weights, more than"
    f" {MAX_MIXTURE_HEAD:,}. Use --config=conv_ladder, model.likelihood = 'discretized_logistic', or a smaller"
    " model.hidden_dims[0]."
  )


@struct.dataclass
class DrawingAnimation:
  """M drawings side by side, one frame per step.

  Attributes:
    canvases: [T, M, H, W, C], shown below `images`.
    images: [M, H, W, C], the images that are drawn; None for drawings from the prior.
    read, write: Windows with fields [T, M] in pixels, see `draw.attention.Window`, or None.
    read_size, write_size: N of the windows.
  """

  canvases: jax.Array
  images: jax.Array | None
  read: Any | None
  write: Any | None
  read_size: int = struct.field(pytree_node=False, default=1)
  write_size: int = struct.field(pytree_node=False, default=1)


@struct.dataclass
class ImageGrid:
  """Images [R, M, H, W, C] in R rows."""

  images: jax.Array


@struct.dataclass
class TitledGrids:
  """S square grids [S, R, R, H, W, C] side by side, each with a title."""

  images: jax.Array
  titles: tuple[str, ...] = struct.field(pytree_node=False)


Picture = DrawingAnimation | ImageGrid | TitledGrids


def held_layers(key: jax.Array, sizes: Sequence[int], decode: Callable) -> TitledGrids:
  """Returns grids of samples of a hierarchy. In grid j, samples of the same row share their top j layers.

  Args:
    key: A random key.
    sizes: Number of latents of every layer, counted from the image.
    decode: Latents in units of the prior to images, see `Model.decode`.
  """
  depth, side = len(sizes), GRID_SIDE
  free, rows = (standard_normals(half, side * side, sizes) for half in jax.random.split(key))
  latents = []
  for index, size in enumerate(sizes):
    own, shared = (noise[index].reshape(side, side, size) for noise in (free, rows))
    shared = jnp.broadcast_to(shared[:, :1], own.shape)
    held = [own if index < depth - block else shared for block in range(depth)]
    latents.append(jnp.concatenate(held).reshape(-1, size))  # [L R R, Z]
  images = decode(latents)
  titles = ["nothing held"] + [f"held from z{index + 1} up" for index in reversed(range(1, depth))]
  return TitledGrids(images.reshape(depth, side, side, *images.shape[1:]), tuple(titles))


class Model(Protocol):
  """A Linen module built from plain fields; it never sees a config.

  Fields declared with `config.schema.key` are the keys of its config section; `identity=False` marks those that change
  speed and memory only. The methods from `__call__` on run under `model.apply(variables, ..., method=...)`.
  Shapes: B batch, H W C image, L latent groups, Z_l latents of a group.

  Attributes:
    STACKED_KERNELS: N of every layer whose kernel [I, n O] is n matrices side by side, such as an LSTM's gates.
    image_shape: (H, W, C).
  """

  STACKED_KERNELS: ClassVar[Mapping[str, int]]
  image_shape: tuple[int, int, int]

  @staticmethod
  def validate(fields: Mapping[str, Any], image_shape: tuple[int, int, int] | None) -> str | None:
    """Returns an error message if valid fields conflict or do not fit the images (None if unknown), else None."""

  @staticmethod
  def display_name(fields: Mapping[str, Any]) -> str:
    """Returns a display name, such as 'DRAW, filterbank attention'."""

  def init_to_data_mean(self, params: dict[str, Any], mean: jax.Array, std: jax.Array) -> dict[str, Any]:
    """Returns initial parameters, changed so that the first predictions are the mean of the training images.

    Otherwise the first epochs are spent on learning that mean.

    Args:
      mean: [H, W, C].
      std: [C] standard deviation around `mean`.
    """

  def __call__(self, images: jax.Array, key: jax.Array) -> ELBOTerms:
    """Returns the terms of the ELBO for images [B, H, W, C] in [0, 1], with one posterior sample drawn by `key`."""

  def encode(self, images: jax.Array) -> tuple[jax.Array, ...]:
    """Returns L arrays [B, Z_l]: posterior means in units of the prior, given the means of other groups."""

  def posteriors(self, images: jax.Array, key: jax.Array) -> tuple[Gaussian, ...]:
    """Returns L Gaussians [B, Z_l] in units of the prior, given the latents that `__call__` draws."""

  def decode(self, latents: Sequence[jax.Array]) -> jax.Array:
    """Returns pixel means [B, H, W, C] for latents in units of the prior, as returned by `encode`."""

  def sample(self, key: jax.Array, num_samples: int) -> jax.Array:
    """Returns pixel means [num_samples, H, W, C] for latents drawn from the prior."""

  def pictures(self, key: jax.Array, images: jax.Array | None) -> dict[str, Picture]:
    """Returns pictures specific to this kind of model by file name; images are [M, H, W, C] in [0, 1], or None."""


class LikelihoodModel(nn.Module):
  """Base of models with a field `likelihood` and an output layer `pixels` (or another `init_to_data_mean`)."""

  STACKED_KERNELS: ClassVar[Mapping[str, int]] = {}

  image_shape: tuple[int, int, int]

  @staticmethod
  def validate(fields: Mapping[str, Any], image_shape: tuple[int, int, int] | None) -> str | None:
    del fields, image_shape

  @property
  def observation_model(self) -> Likelihood:
    return LIKELIHOODS[self.likelihood]

  @property
  def params_shape(self) -> tuple[int, int, int]:
    """(H, W, P), the shape of `pixel_params` of an image, see `Likelihood`."""
    *size, channels = self.image_shape
    return (*size, self.observation_model.params_per_pixel(channels))

  def setup(self):
    has_scale = self.observation_model.has_scale
    self.log_scale = self.param("log_scale", nn.initializers.zeros, self.image_shape[-1:]) if has_scale else None

  def init_to_data_mean(self, params: dict[str, Any], mean: jax.Array, std: jax.Array) -> dict[str, Any]:
    chex.assert_shape(mean, self.image_shape)
    chex.assert_shape(std, self.image_shape[-1:])
    likelihood, kernel = self.observation_model, params["pixels"]["kernel"]
    gain = jnp.broadcast_to(likelihood.init_gain(std), self.params_shape).ravel()
    pixels = {"kernel": kernel * gain[None], "bias": likelihood.init_params(mean).ravel()}
    return params | {"pixels": pixels} | likelihood.init_log_scale(std)

  def pictures(self, key: jax.Array, images: jax.Array | None) -> dict[str, Picture]:
    del key, images
    return {}
