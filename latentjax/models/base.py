"""The interface of a model, and the pictures that a model can draw."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

import jax
from flax import struct

from latentjax.config.schema import Constraint
from latentjax.models.distributions import Gaussian
from latentjax.models.elbo import ELBOTerms

Params = dict[str, Any]

Variables = dict[str, Params]


def num_parameters(params: Params) -> int:
  """How many numbers the weights of one seed are."""
  return sum(leaf.size for leaf in jax.tree.leaves(params))


@struct.dataclass
class DrawingAnimation:
  """M drawings side by side, a frame for each step.

  Attributes:
    canvases: [T, M, H, W, C] below.
    images: [M, H, W, C] what is drawn, above; None for drawings from the prior.
    read, write: windows with fields [T, M] in pixels, see `draw.attention.Window`; None where there are none.
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
  """Images [R, M, H, W, C], a row for each of R."""

  images: jax.Array


@struct.dataclass
class TitledGrids:
  """Square grids side by side, each under its title.

  Attributes:
    images: [S, R, R, H, W, C]. titles: S of them.
  """

  images: jax.Array
  titles: tuple[str, ...] = struct.field(pytree_node=False)


Picture = DrawingAnimation | ImageGrid | TitledGrids


class Model(Protocol):
  """A Linen module made of plain fields; those of its config section are its fields but for `image_shape`.

  The class says what a config may say of it, and what it is called. The methods from `__call__` on run under
  `model.apply(variables, ..., method=...)`. Shapes: B batch, H W C image, L latent groups, Z_l latents of a group.

  Attributes:
    RULES: what each field may be.
    SPEED: the fields that change speed and memory and nothing else, so that a run may go on under others.
    STACKED: layers whose kernel [I, n O] is n matrices side by side, such as a cell's gates, and n.
    image_shape: (H, W, C).
  """

  RULES: ClassVar[Mapping[str, Constraint]]
  PERFORMANCE_FIELDS: ClassVar[tuple[str, ...]]
  STACKED_KERNELS: ClassVar[Mapping[str, int]]
  image_shape: tuple[int, int, int]

  @staticmethod
  def validate(fields: Mapping[str, Any], image_shape: tuple[int, int, int] | None) -> str | None:
    """Why these fields, each possible by itself, do not fit together or the images; None if they do.

    Args:
      image_shape: None before the images are known.
    """

  @staticmethod
  def title(fields: Mapping[str, Any]) -> str:
    """The model in words, such as 'DRAW, filterbank attention'."""

  def init_to_data_mean(self, params: dict[str, Any], mean: jax.Array, std: jax.Array) -> dict[str, Any]:
    """Fresh parameters, changed so that the first images are the mean [H, W, C] of the training images.

    Without it the first epochs go into learning that mean at the optimiser's pace.

    Args:
      std: [C] deviation of the training images from that mean, for a likelihood that has a scale.
    """

  def __call__(self, images: jax.Array, key: jax.Array) -> ELBOTerms:
    """Terms of the bound for images [B, H, W, C] in [0, 1], with one posterior sample drawn by `key`."""

  def encode(self, images: jax.Array) -> tuple[jax.Array, ...]:
    """L arrays [B, Z_l]: posterior means in units of the prior, each given the means of the groups it depends on."""

  def posteriors(self, images: jax.Array, key: jax.Array) -> tuple[Gaussian, ...]:
    """L Gaussians [B, Z_l] in units of the prior, which is N(0, I) there, given the latents that `__call__` draws."""

  def decode(self, latents: Sequence[jax.Array]) -> jax.Array:
    """[B, H, W, C] pixel means for latents in units of the prior, as `encode` gives them."""

  def sample(self, key: jax.Array, num_samples: int) -> jax.Array:
    """[num_samples, H, W, C] pixel means for latents drawn from the prior."""

  def pictures(self, key: jax.Array, images: jax.Array | None) -> dict[str, Picture]:
    """What only this kind of model can show, by file name.

    Args:
      images: [M, H, W, C] in [0, 1] to show it on; None for what needs none.
    """
