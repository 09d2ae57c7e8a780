"""Ladder VAE with convolutions: latents at several resolutions, generated from the coarsest down.

A small relative of the convolutional ladder (Sonderby et al. 2016, arXiv:1602.02282) and of very deep VAEs (Child 2021,
arXiv:2011.10650). A bottom-up network gives features d of the image at every resolution. From the top down, each layer
of latents refines a map h, which starts as a weight:

    p(z | h) = N(mu, s),  (mu, log s) = Conv1(a(h))
    q(z | h, d) = N(mu + s m, s t),  (m, log t) = Conv1(a(Conv3(a(h)) + Conv1(d)))        merge = "concat"
    h <- h + Conv1(z),  h <- h + Conv1(a(Conv3(a(h))))

with a = leaky ReLU. With merge = "precision", q is the normalized product of p and a Gaussian predicted from d, as in
the Ladder VAE. There is no normalization layer: the last convolution of a block starts small.

Layers are counted from the image: index 0 is z_1. Shapes: B batch, H W C image, h w positions of a level, U channels of
a level, Z latents per position, L layers.
"""

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from latentjax.config.schema import BOOLEAN, Constraint, key, one_of
from latentjax.models.base import LikelihoodModel, Picture, held_layers, likelihood_key
from latentjax.models.distributions import Gaussian, standard_normal_log_prob, standard_normals
from latentjax.models.elbo import ELBOTerms
from latentjax.models.layers import Conv, depth_to_space, space_to_depth

LOG_STD_RANGE = {"prior": (-4.0, 3.0), "posterior": (-6.0, 3.0)}  # of the posterior in units of the prior
BLOCK_GAIN = 0.3  # of a block's last convolution, divided by the square root of the number of layers
HEAD_GAIN = 0.1  # of the convolutions that predict Gaussians
LEVEL = re.compile(r"(\d+):(\d+)x(\d+)z(\d+)")
DISPLAY_NAMES = {"concat": "Convolutional Ladder VAE", "precision": "Convolutional Ladder VAE, precision-weighted"}


class Level(NamedTuple):
  """The layers at one resolution."""

  height: int
  layers: int
  channels: int  # U
  latents: int  # Z

  def positions(self, height: int, width: int) -> tuple[int, int]:
    """Returns (h, w) for images of height x width pixels, in the same proportion."""
    return self.height, max(1, self.height * width // height)


def parse_levels(text: str) -> list[Level]:
  """Parses levels such as "1:1x96z24 7:3x32z4"; raises ValueError if one is malformed or they do not ascend."""
  levels = []
  for part in text.split():
    match = LEVEL.fullmatch(part)
    level = match and Level(*map(int, match.groups()))
    if not level or 0 in level or (levels and level.height <= levels[-1].height):
      raise ValueError(text)
    levels.append(level)
  return levels


LEVELS = Constraint(
  "HEIGHT:LAYERSxCHANNELSzLATENTS for each resolution, of ascending height, such as '1:1x96z24 7:3x32z4'",
  lambda text: len(parse_levels(text)) > 0,
)


class ConvLadderVAE(LikelihoodModel):
  """Convolutional hierarchy with L layers of latents [B, h w Z]. For its methods see `Model`."""

  levels: str = key(
    "1:1x96z24 7:3x32z4 14:1x16z1",
    LEVELS,
    "resolutions from the top; all layers of one have as many channels and latents per position",
    ("blocks", "channels", "filters", "resolutions"),
  )
  merge: str = key("concat", one_of(*DISPLAY_NAMES), "posterior; precision: the Ladder VAE's product of two Gaussians")
  remat: bool = key(False, BOOLEAN, "recompute the activations of layers instead of storing them", identity=False)
  likelihood: str = likelihood_key()

  @staticmethod
  def validate(fields: Mapping[str, Any], image_shape: tuple[int, int, int] | None) -> str | None:
    if image_shape is None:
      return None
    height, width, _ = image_shape
    rows, columns = height, width
    for level in reversed(parse_levels(fields["levels"])):
      finer, (rows, columns) = (rows, columns), level.positions(height, width)
      if finer[0] % rows or finer[1] % columns:
        problem = f"model.levels: {rows} x {columns} positions do not divide {finer[0]} x {finer[1]} evenly."
        return f"{problem} Each level must divide the next, and the last the image ({height} x {width} pixels)."
    return None

  @staticmethod
  def display_name(fields: Mapping[str, Any]) -> str:
    return DISPLAY_NAMES.get(fields.get("merge"), DISPLAY_NAMES["concat"])

  @property
  def shapes(self) -> list[tuple[int, int, int]]:
    """(h, w, Z) of every layer, from the image up."""
    levels, (height, width, _) = parse_levels(self.levels), self.image_shape
    return [(*x.positions(height, width), x.latents) for x in reversed(levels) for _ in range(x.layers)]

  @property
  def sizes(self) -> list[int]:
    """Number of latents of every layer, from the image up."""
    return list(map(math.prod, self.shapes))

  def setup(self):
    levels, (height, width, params) = parse_levels(self.levels), self.params_shape
    gain = BLOCK_GAIN / math.sqrt(sum(level.layers for level in levels))
    layer = nn.remat(Layer) if self.remat else Layer
    self.positions = [level.positions(height, width) for level in levels]
    self.up_in = [Conv(level.channels) for level in levels]
    self.up_blocks = [Block(BLOCK_GAIN / math.sqrt(len(levels))) for _ in levels]
    self.layers = [[layer(level.latents, self.merge, gain) for _ in range(level.layers)] for level in levels]
    areas = [*map(math.prod, self.positions), height * width]
    patches = [finer // area for area, finer in itertools.pairwise(areas)]  # positions of the next finer level
    self.down_out = [Conv(n * finer.channels) for n, finer in zip(patches, levels[1:], strict=False)]
    self.maps = [
      self.param(f"map_{index}", nn.initializers.zeros, (*position, level.channels))
      for index, (position, level) in enumerate(zip(self.positions, levels, strict=True))
    ]
    self.pixels = Conv(patches[-1] * params)
    self.offset = self.param("offset", nn.initializers.zeros, self.params_shape)
    super().setup()

  def init_to_data_mean(self, params: dict[str, Any], mean: jax.Array, std: jax.Array) -> dict[str, Any]:
    likelihood, pixels = self.observation_model, params["pixels"]
    gain = jnp.tile(likelihood.init_gain(std), pixels["kernel"].shape[-1] // self.params_shape[-1])
    pixels = pixels | {"kernel": pixels["kernel"] * gain[None]}
    return params | {"pixels": pixels, "offset": likelihood.init_params(mean)} | likelihood.init_log_scale(std)

  def __call__(self, images: jax.Array, key: jax.Array) -> ELBOTerms:
    noise = standard_normals(key, len(images), self.sizes)
    h, posteriors = self.top_down(noise, self.bottom_up(images))
    pixels, likelihood = self.pixel_params(h), self.observation_model
    return ELBOTerms(
      mean=likelihood.mean(pixels),
      log_px=likelihood.log_prob(pixels, images, self.log_scale),
      kl=jnp.stack([q.kl_to_standard() for q in posteriors], axis=-1),
      log_pz=jnp.stack([standard_normal_log_prob(q.sample(eps)) for q, eps in zip(posteriors, noise, strict=True)], -1),
      log_qz=jnp.stack([q.log_prob_of_sample(eps) for q, eps in zip(posteriors, noise, strict=True)], -1),
    )

  def bottom_up(self, images: jax.Array) -> list[jax.Array]:
    """Returns features d [B, h, w, U] of every level, from the top."""
    x = images - self.observation_model.mean(self.offset)[None]
    features = []
    for position, convolution, block in reversed(list(zip(self.positions, self.up_in, self.up_blocks, strict=True))):
      x = block(convolution(space_to_depth(x, *position)))
      features.insert(0, x)
    return features

  def top_down(
    self, noise: Sequence[jax.Array], features: Sequence[jax.Array] | None = None
  ) -> tuple[jax.Array, list[Gaussian]]:
    """Returns the last map h, and the posteriors [B, h w Z] in units of the prior of all layers, from the image up.

    Args:
      noise: Standard normal noise [B, h w Z] for each layer; without features, the latents in units of the prior.
      features: As returned by `bottom_up`, or None to generate.
    """
    batch, shapes, h, posteriors = len(noise[0]), self.shapes, None, []
    for index, layers in enumerate(self.layers):
      h = self.enter_level(index, h, batch)
      for layer in layers:
        position = len(shapes) - 1 - len(posteriors)
        own = noise[position].reshape(batch, *shapes[position])
        h, posterior = layer(h, own, features and features[index])
        posteriors.insert(0, jax.tree.map(lambda x: x.reshape(batch, -1), posterior))
    return h, posteriors

  def enter_level(self, index: int, h: jax.Array | None, batch: int) -> jax.Array:
    """Returns the map h [B, h, w, U] with which a level starts, given that of the level above."""
    start = jnp.broadcast_to(self.maps[index], (batch, *self.maps[index].shape))
    if h is None:
      return start
    return start + depth_to_space(self.down_out[index - 1](_activate(h)), *self.positions[index])

  def pixel_params(self, h: jax.Array) -> jax.Array:
    """Returns the parameters [B, H, W, P] of p(x | z_1, ..) given the last map, see `Likelihood`."""
    return depth_to_space(self.pixels(_activate(h)), *self.image_shape[:2]) + self.offset[None]

  def encode(self, images: jax.Array) -> tuple[jax.Array, ...]:
    zeros = [jnp.zeros((len(images), size)) for size in self.sizes]
    return tuple(posterior.mean for posterior in self.top_down(zeros, self.bottom_up(images))[1])

  def posteriors(self, images: jax.Array, key: jax.Array) -> tuple[Gaussian, ...]:
    noise = standard_normals(key, len(images), self.sizes)
    return tuple(self.top_down(noise, self.bottom_up(images))[1])

  def decode(self, latents: Sequence[jax.Array]) -> jax.Array:
    return self.observation_model.mean(self.pixel_params(self.top_down(latents)[0]))

  def sample(self, key: jax.Array, num_samples: int) -> jax.Array:
    return self.decode(standard_normals(key, num_samples, self.sizes))

  def pictures(self, key: jax.Array, images: jax.Array | None) -> dict[str, Picture]:
    """Returns layers.png: grids of samples. In grid j, samples of the same row share their top j layers."""
    del images
    return {"layers.png": held_layers(key, self.sizes, self.decode)}


class Layer(nn.Module):
  """A layer of latents at one resolution: prior, posterior, and the map that follows from a sample."""

  latents: int  # Z
  merge: str
  gain: float

  @nn.compact
  def __call__(self, h: jax.Array, noise: jax.Array, d: jax.Array | None = None) -> tuple[jax.Array, Gaussian | None]:
    """Returns the next map h, and given features d of an image, the posterior in units of the prior.

    `noise` [B, h, w, Z] is standard normal noise of the posterior; without d it is z in units of the prior.
    """
    channels, active = h.shape[-1], _activate(h)
    prior = _gaussian(Conv(2 * self.latents, gain=HEAD_GAIN, name="prior")(active), "prior")
    posterior, u = None, noise
    if d is not None:
      if self.merge == "precision":
        evidence = _gaussian(Conv(2 * self.latents, gain=HEAD_GAIN, name="evidence")(_activate(d)), "prior")
        relative = evidence.relative_to(prior)
        posterior = relative.product(Gaussian(jnp.zeros_like(relative.mean), jnp.zeros_like(relative.mean)))
      else:
        merged = Conv(channels, _kernel_size(h), name="merge_h")(active) + Conv(channels, name="merge_d")(d)
        posterior = _gaussian(Conv(2 * self.latents, gain=HEAD_GAIN, name="posterior")(_activate(merged)), "posterior")
      u = posterior.sample(noise)
    h = h + Conv(channels, gain=self.gain, name="z")(prior.sample(u))
    return Block(self.gain, name="block")(h), posterior


class Block(nn.Module):
  """x + Conv1(a(Conv3(a(x)))) for x [B, h, w, U]."""

  gain: float  # of the last convolution

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    channels = x.shape[-1]
    return x + Conv(channels, gain=self.gain)(_activate(Conv(channels, _kernel_size(x))(_activate(x))))


def _activate(x: jax.Array) -> jax.Array:
  return nn.leaky_relu(x, 0.1)


def _gaussian(numbers: jax.Array, kind: str) -> Gaussian:
  mean, log_std = jnp.split(numbers, 2, axis=-1)
  return Gaussian(mean, jnp.clip(log_std, *LOG_STD_RANGE[kind]))


def _kernel_size(x: jax.Array) -> int:
  """Returns 3, or 1 where there are no neighbors."""
  return 3 if max(x.shape[1:3]) > 1 else 1
