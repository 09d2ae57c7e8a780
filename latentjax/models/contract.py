"""What a model offers, so that training, evaluation and pictures never ask which one it is."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

import jax

from latentjax.config import Rule
from latentjax.models.distributions import Gaussian
from latentjax.models.pictures import Picture
from latentjax.models.terms import Terms


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

  RULES: ClassVar[Mapping[str, Rule]]
  SPEED: ClassVar[tuple[str, ...]]
  STACKED: ClassVar[Mapping[str, int]]
  image_shape: tuple[int, int, int]

  @staticmethod
  def conflict(fields: Mapping[str, Any], image_shape: tuple[int, int, int] | None) -> str | None:
    """Why these fields, each possible by itself, do not fit together or the images; None if they do.

    Args:
      image_shape: None before the images are known.
    """

  @staticmethod
  def title(fields: Mapping[str, Any]) -> str:
    """The model in words, such as 'DRAW, filterbank attention'."""

  def start_at(self, params: dict[str, Any], mean: jax.Array, std: jax.Array) -> dict[str, Any]:
    """Fresh parameters, changed so that the first images are the mean [H, W, C] of the training images.

    Without it the first epochs go into learning that mean at the optimiser's pace.

    Args:
      std: [C] deviation of the training images from that mean, for a likelihood that has a scale.
    """

  def __call__(self, images: jax.Array, key: jax.Array) -> Terms:
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
