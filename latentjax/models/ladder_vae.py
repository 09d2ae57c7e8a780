"""Hierarchies in space: the Ladder VAE (Sonderby et al. 2016, arXiv:1602.02282) and its plain control.

Both generate from the top down, z_L -> ... -> z_1 -> x, and differ in how they infer. Layers are counted from the
image: index 0 is z_1, the last is z_L. Shapes: B batch, H W C image, Z_i latents of layer i, L layers.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from latentjax.config.schema import AT_LEAST_ONE, BOOLEAN, COUNTS, Constraint, one_of
from latentjax.models.base import Picture, TitledGrids
from latentjax.models.distributions import Gaussian
from latentjax.models.elbo import ELBOTerms
from latentjax.models.likelihoods import LIKELIHOODS, Likelihood, init_output_layer

DISPLAY_NAMES = {"ladder": "Ladder VAE", "bottom_up": "Hierarchical VAE, bottom-up inference"}

GRID_SIDE = 6  # samples to a side of a block of layers.png

MIN_VARIANCE = 1e-6  # keeps the logarithm finite where softplus underflows


class InferredLayer(NamedTuple):
  """One stochastic layer after inference: q(z_i | ..), p(z_i | z_{i+1}), and the z_i drawn from q."""

  posterior: Gaussian
  prior: Gaussian
  z: jax.Array


class LadderVAE(nn.Module):
  """L layers of latents with batch norm; inference shares the generative path, or does not.

  Attributes:
    image_shape: (H, W, C).
    hidden_dims, latent_dims: width of the MLP and Z_i of every layer, from the image upwards; equally many.
    mlp_depth: hidden layers of every MLP.
    inference: "ladder", a deterministic pass up whose evidence is merged with the prior on the way down, or
      "bottom_up", q(z_1 | x) q(z_2 | z_1) ..., the plain hierarchical VAE.
    skips: every prior and the image see all latents above them, p(z_i | z_{i+1}, .., z_L) and p(x | z_1, .., z_L),
      and not only the next; and a hidden layer adds to what comes in where that has its width.
    likelihood: of `LIKELIHOODS`, what the pixels are.
  """

  RULES: ClassVar[Mapping[str, Constraint]] = {
    "hidden_dims": COUNTS,
    "latent_dims": COUNTS,
    "mlp_depth": AT_LEAST_ONE,
    "inference": one_of(*DISPLAY_NAMES),
    "skips": BOOLEAN,
    "likelihood": one_of(*LIKELIHOODS),
  }
  PERFORMANCE_FIELDS: ClassVar[tuple[str, ...]] = ()
  STACKED_KERNELS: ClassVar[Mapping[str, int]] = {}

  image_shape: tuple[int, int, int]
  hidden_dims: Sequence[int] = (512, 256, 256)
  latent_dims: Sequence[int] = (64, 32, 32)
  mlp_depth: int = 1
  inference: str = "ladder"
  skips: bool = False
  likelihood: str = "bernoulli"

  @staticmethod
  def validate(fields: Mapping[str, Any], image_shape: tuple[int, int, int] | None) -> str | None:
    del image_shape
    hidden_dims, latent_dims = fields["hidden_dims"], fields["latent_dims"]
    if len(hidden_dims) == len(latent_dims):
      return None
    dims = f"model.hidden_dims = {hidden_dims} and model.latent_dims = {latent_dims}"
    return f"{dims} must be equally long: an entry per layer"

  @staticmethod
  def title(fields: Mapping[str, Any]) -> str:
    return DISPLAY_NAMES.get(fields.get("inference"), "Ladder VAE")

  def setup(self):
    height, width, channels = self.image_shape
    self.encoders = [BatchNormMLP(width, self.mlp_depth, self.skips) for width in self.hidden_dims]
    self.evidence = [GaussianHead(latents) for latents in self.latent_dims]
    self.decoders = [BatchNormMLP(width, self.mlp_depth, self.skips) for width in self.hidden_dims]
    self.priors = [GaussianHead(latents) for latents in self.latent_dims[:-1]]
    self.pixels = nn.Dense(height * width * channels)
    self.log_scale = (
      self.param("log_scale", nn.initializers.zeros, (channels,)) if self.observation_model.has_scale else None
    )

  @property
  def observation_model(self) -> Likelihood:
    return LIKELIHOODS[self.likelihood]

  def init_to_data_mean(self, params: dict[str, Any], mean: jax.Array, std: jax.Array) -> dict[str, Any]:
    pixels = init_output_layer(self.observation_model, params["pixels"], mean, std)
    return params | {"pixels": pixels} | self.observation_model.init_log_scale(std)

  def __call__(self, images: jax.Array, key: jax.Array) -> ELBOTerms:
    """Terms of the bound for images [B, H, W, C] in [0, 1].

    Batch norm uses the batch's own statistics, and returns them, where the collection `batch_stats` is mutable.
    """
    layers = self.infer(images, standard_normals(key, len(images), self.latent_dims))
    pixels = self.pixel_params([layer.z for layer in layers])
    log_pz = jnp.stack([layer.prior.log_prob(layer.z) for layer in layers], axis=-1)  # [B, L]
    log_qz = jnp.stack([layer.posterior.log_prob(layer.z) for layer in layers], axis=-1)
    if self.inference == "ladder":
      kl = jnp.stack([layer.posterior.kl(layer.prior) for layer in layers], axis=-1)
    else:  # below the top, the prior depends on the very z that the KL would integrate out: it stays a sample
      top = layers[-1].posterior.kl(layers[-1].prior)
      kl = (log_qz - log_pz).at[:, -1].set(top)
    return ELBOTerms(
      self.observation_model.mean(pixels),
      self.observation_model.log_prob(pixels, images, self.log_scale),
      kl,
      log_pz,
      log_qz,
    )

  def infer(self, images: jax.Array, noise: Sequence[jax.Array]) -> list[InferredLayer]:
    """The layers, from the image upwards, for standard normal noise [B, Z_i] of each."""
    below = images.reshape(len(images), -1)
    return self.infer_ladder(below, noise) if self.inference == "ladder" else self.infer_bottom_up(below, noise)

  def infer_ladder(self, below: jax.Array, noise: Sequence[jax.Array]) -> list[InferredLayer]:
    """Up: d_i = MLP(d_{i-1}) gives evidence N_i. Down: q(z_L) = N_L, q(z_i | z_{i+1}) = N_i merged with the prior."""
    evidence = []
    for encoder, head in zip(self.encoders, self.evidence, strict=True):
      below = encoder(below)
      evidence.append(head(below))
    posterior, prior = evidence[-1], self.top_prior(len(below))
    layers = [InferredLayer(posterior, prior, posterior.sample(noise[-1]))]
    for index in reversed(range(len(self.priors))):
      prior = self.prior(index, [layer.z for layer in layers])  # the posterior's: every layer reaches the image
      posterior = evidence[index].product(prior)
      layers.insert(0, InferredLayer(posterior, prior, posterior.sample(noise[index])))
    return layers

  def infer_bottom_up(self, below: jax.Array, noise: Sequence[jax.Array]) -> list[InferredLayer]:
    """q(z_1 | x), q(z_2 | z_1) ... by MLPs of the layer below, which share nothing with the priors."""
    posteriors, latents = [], []
    for encoder, head, eps in zip(self.encoders, self.evidence, noise, strict=True):
      posteriors.append(head(encoder(below)))
      below = posteriors[-1].sample(eps)
      latents.append(below)
    priors = [self.prior(index, latents[index + 1 :]) for index in range(len(self.priors))]
    priors.append(self.top_prior(len(below)))
    return list(map(InferredLayer, posteriors, priors, latents))

  def prior(self, index: int, above: Sequence[jax.Array]) -> Gaussian:
    """p(z_i | z_{i+1}, ..) for the latents `above`, z_{i+1} first."""
    return self.priors[index](self.down(index + 1, above))

  def down(self, index: int, latents: Sequence[jax.Array]) -> jax.Array:
    """Features of the latents from z_index up, z_index first: of it alone, or with skips of all."""
    return self.decoders[index](jnp.concatenate(latents, axis=-1) if self.skips else latents[0])

  def top_prior(self, batch: int) -> Gaussian:
    """p(z_L) = N(0, I)."""
    zeros = jnp.zeros((batch, self.latent_dims[-1]))
    return Gaussian(zeros, zeros)

  def pixel_params(self, latents: Sequence[jax.Array]) -> jax.Array:
    """[B, H, W, C] parameters of p(x | z_1, ..) for z_1, .., z_L, see `Likelihood`."""
    height, width, _ = self.image_shape
    return self.pixels(self.down(0, latents)).reshape(len(latents[0]), height, width, -1)

  def encode(self, images: jax.Array) -> tuple[jax.Array, ...]:
    """L arrays [B, Z_i]: each layer's posterior mean in units of its prior, given the means of the other layers.

    (mean_q - mean_p) / std_p is 0 for a unit that only repeats what the layer above says.
    """
    layers = self.infer(images, [jnp.zeros((len(images), latents)) for latents in self.latent_dims])
    return tuple(layer.prior.whiten(layer.z) for layer in layers)

  def posteriors(self, images: jax.Array, key: jax.Array) -> tuple[Gaussian, ...]:
    """L Gaussians [B, Z_i] in units of the priors, given a sample of the other layers."""
    layers = self.infer(images, standard_normals(key, len(images), self.latent_dims))
    return tuple(layer.posterior.relative_to(layer.prior) for layer in layers)

  def decode(self, latents: Sequence[jax.Array]) -> jax.Array:
    """[B, H, W, C] pixel means for latents in units of their priors, as `encode` gives them."""
    values = [latents[-1]]
    for index in reversed(range(len(self.priors))):
      values.insert(0, self.prior(index, values).sample(latents[index]))
    return self.observation_model.mean(self.pixel_params(values))

  def sample(self, key: jax.Array, num_samples: int) -> jax.Array:
    """[num_samples, H, W, C] pixel means for latents drawn from the prior."""
    return self.decode(standard_normals(key, num_samples, self.latent_dims))

  def pictures(self, key: jax.Array, images: jax.Array | None) -> dict[str, Picture]:
    """layers.png: samples with upper layers held. Block 0 holds nothing; in block j a row shares its top j layers."""
    del images
    depth = len(self.latent_dims)
    free, rows = (standard_normals(half, GRID_SIDE * GRID_SIDE, self.latent_dims) for half in jax.random.split(key))
    latents = []
    for index, size in enumerate(self.latent_dims):
      own, shared = (noise[index].reshape(GRID_SIDE, GRID_SIDE, size) for noise in (free, rows))
      shared = jnp.broadcast_to(shared[:, :1], own.shape)
      held = [own if index < depth - block else shared for block in range(depth)]
      latents.append(jnp.concatenate(held).reshape(-1, size))  # [L R R, Z]
    images = self.decode(latents).reshape(depth, GRID_SIDE, GRID_SIDE, *self.image_shape)
    titles = ["nothing held"] + [f"held from z{index + 1} up" for index in reversed(range(1, depth))]
    return {"layers.png": TitledGrids(images, tuple(titles))}


def standard_normals(key: jax.Array, batch: int, sizes: Sequence[int]) -> list[jax.Array]:
  """Noise [B, size] for every size."""
  return jnp.split(jax.random.normal(key, (batch, sum(sizes))), list(itertools.accumulate(sizes))[:-1], axis=-1)


class BatchNormMLP(nn.Module):
  """`depth` times dense, batch norm, leaky rectifier; with `skips` what comes in is added where widths agree.

  Its `batch_stats` are those of the last batch alone (momentum 0): averaging them is the training step's business.
  """

  width: int
  depth: int
  skips: bool

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    running = not self.is_mutable_collection("batch_stats")
    for _ in range(self.depth):
      hidden = nn.Dense(self.width, use_bias=False)(x)  # batch norm brings the bias
      hidden = nn.leaky_relu(nn.BatchNorm(use_running_average=running, momentum=0.0)(hidden))
      x = x + hidden if self.skips and x.shape == hidden.shape else hidden
    return x


class GaussianHead(nn.Module):
  """Mean linear, variance softplus of linear: positive, and as small as the data ask for."""

  latents: int

  @nn.compact
  def __call__(self, features: jax.Array) -> Gaussian:
    mean, raw = jnp.split(nn.Dense(2 * self.latents)(features), 2, axis=-1)
    return Gaussian(mean, 0.5 * jnp.log(nn.softplus(raw) + MIN_VARIANCE))
