"""Ladder VAE (Sonderby et al. 2016, arXiv:1602.02282), and the plain hierarchical VAE that it is compared with.

Both generate top-down, z_L -> ... -> z_1 -> x, and differ in inference. Layers are counted from the image: index 0 is
z_1, the last is z_L. Shapes: B batch, H W C image, Z_i latents of layer i, L layers.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from latentjax.config.schema import AT_LEAST_ONE, BOOLEAN, SIZES, key, one_of
from latentjax.models.base import LikelihoodModel, Picture, dense_head_problem, held_layers, likelihood_key
from latentjax.models.distributions import Gaussian, standard_normal_log_prob, standard_normals
from latentjax.models.elbo import ELBOTerms

DISPLAY_NAMES = {"ladder": "Ladder VAE", "bottom_up": "Hierarchical VAE, bottom-up inference"}
MIN_VARIANCE = 1e-6  # keeps the logarithm finite if softplus underflows


class InferredLayer(NamedTuple):
  """One layer after inference: q(z_i | ..), p(z_i | z_{i+1}), and z_i drawn from q."""

  posterior: Gaussian
  prior: Gaussian
  z: jax.Array


class LadderVAE(LikelihoodModel):
  """Hierarchical VAE of L layers with batch norm. For its methods see `Model`.

  Inference is either "ladder", a deterministic upward pass whose evidence is multiplied with the prior on the way down,
  or "bottom_up", q(z_1 | x) q(z_2 | z_1) .... With `skips`, priors and image see all latents above them,
  p(z_i | z_{i+1}, .., z_L) and p(x | z_1, .., z_L), and hidden layers add to inputs of the same width.
  """

  hidden_dims: Sequence[int] = key(
    (512, 256, 256),
    SIZES,
    "widths of each layer's MLPs, from the image up",
    ("h", "h_dim", "hidden", "hidden_sizes", "widths"),
  )
  latent_dims: Sequence[int] = key(
    (64, 32, 32),
    SIZES,
    "latents of each layer, from the image up",
    ("z", "z_dim", "z_size", "latent", "latent_sizes", "latents"),
  )
  mlp_depth: int = key(1, AT_LEAST_ONE, "hidden layers of each MLP")
  inference: str = key(
    "ladder", one_of(*DISPLAY_NAMES), "ladder: shares the generative path; bottom_up: shares nothing"
  )
  skips: bool = key(False, BOOLEAN, "connect each layer of latents to all layers below, and add skips to the MLPs")
  likelihood: str = likelihood_key()

  @staticmethod
  def validate(fields: Mapping[str, Any], image_shape: tuple[int, int, int] | None) -> str | None:
    hidden_dims, latent_dims = fields["hidden_dims"], fields["latent_dims"]
    if len(hidden_dims) == len(latent_dims):
      return dense_head_problem(fields, image_shape)
    dims = f"model.hidden_dims = {hidden_dims} and model.latent_dims = {latent_dims}"
    return f"{dims} must have the same length, one entry per layer."

  @staticmethod
  def display_name(fields: Mapping[str, Any]) -> str:
    return DISPLAY_NAMES.get(fields.get("inference"), "Ladder VAE")

  def setup(self):
    self.encoders = [BatchNormMLP(width, self.mlp_depth, self.skips) for width in self.hidden_dims]
    self.evidence = [GaussianHead(latents) for latents in self.latent_dims]
    self.decoders = [BatchNormMLP(width, self.mlp_depth, self.skips) for width in self.hidden_dims]
    self.priors = [GaussianHead(latents) for latents in self.latent_dims[:-1]]
    self.pixels = nn.Dense(math.prod(self.params_shape))
    super().setup()

  def __call__(self, images: jax.Array, key: jax.Array) -> ELBOTerms:
    """Batch norm uses, and returns, the statistics of the batch if the collection `batch_stats` is mutable."""
    noise = standard_normals(key, len(images), self.latent_dims)
    layers = self.infer(images, noise)
    pixels = self.pixel_params([layer.z for layer in layers])
    relative = [layer.posterior.relative_to(layer.prior) for layer in layers]
    log_pz = jnp.stack([standard_normal_log_prob(q.sample(eps)) for q, eps in zip(relative, noise, strict=True)], -1)
    log_qz = jnp.stack([q.log_prob_of_sample(eps) for q, eps in zip(relative, noise, strict=True)], -1)  # [B, L]
    if self.inference == "ladder":
      kl = jnp.stack([q.kl_to_standard() for q in relative], axis=-1)
    else:  # below the top, the prior depends on the z that the KL would integrate out, so a sample replaces it
      kl = (log_qz - log_pz).at[:, -1].set(relative[-1].kl_to_standard())
    likelihood = self.observation_model
    return ELBOTerms(likelihood.mean(pixels), likelihood.log_prob(pixels, images, self.log_scale), kl, log_pz, log_qz)

  def infer(self, images: jax.Array, noise: Sequence[jax.Array]) -> list[InferredLayer]:
    """Returns all layers, from the image upwards, given standard normal noise [B, Z_i] for each."""
    below = images.reshape(len(images), -1)
    return self.infer_ladder(below, noise) if self.inference == "ladder" else self.infer_bottom_up(below, noise)

  def infer_ladder(self, below: jax.Array, noise: Sequence[jax.Array]) -> list[InferredLayer]:
    """Up: d_i = MLP(d_{i-1}) gives evidence N_i. Down: q(z_L) = N_L, q(z_i | z_{i+1}) = N_i p(z_i | z_{i+1}) / c."""
    evidence = []
    for encoder, head in zip(self.encoders, self.evidence, strict=True):
      below = encoder(below)
      evidence.append(head(below))
    posterior, prior = evidence[-1], self.top_prior(len(below))
    layers = [InferredLayer(posterior, prior, posterior.sample(noise[-1]))]
    for index in reversed(range(len(self.priors))):
      prior = self.prior(index, [layer.z for layer in layers])  # posterior samples: every layer reaches the image
      posterior = evidence[index].product(prior)
      layers.insert(0, InferredLayer(posterior, prior, posterior.sample(noise[index])))
    return layers

  def infer_bottom_up(self, below: jax.Array, noise: Sequence[jax.Array]) -> list[InferredLayer]:
    """q(z_1 | x), q(z_2 | z_1), ... by MLPs that share nothing with the priors."""
    posteriors, latents = [], []
    for encoder, head, eps in zip(self.encoders, self.evidence, noise, strict=True):
      posteriors.append(head(encoder(below)))
      below = posteriors[-1].sample(eps)
      latents.append(below)
    priors = [self.prior(index, latents[index + 1 :]) for index in range(len(self.priors))]
    priors.append(self.top_prior(len(below)))
    return list(map(InferredLayer, posteriors, priors, latents))

  def prior(self, index: int, above: Sequence[jax.Array]) -> Gaussian:
    """Returns p(z_i | z_{i+1}, ..) given the latents `above`, z_{i+1} first."""
    return self.priors[index](self.down(index + 1, above))

  def down(self, index: int, latents: Sequence[jax.Array]) -> jax.Array:
    """Returns features of z_index, or with skips of all `latents`, which are z_index and those above it."""
    return self.decoders[index](jnp.concatenate(latents, axis=-1) if self.skips else latents[0])

  def top_prior(self, batch: int) -> Gaussian:
    """Returns p(z_L) = N(0, I)."""
    zeros = jnp.zeros((batch, self.latent_dims[-1]))
    return Gaussian(zeros, zeros)

  def pixel_params(self, latents: Sequence[jax.Array]) -> jax.Array:
    """Returns the parameters [B, H, W, P] of p(x | z_1, ..) given z_1, .., z_L, see `Likelihood`."""
    return self.pixels(self.down(0, latents)).reshape(len(latents[0]), *self.params_shape)

  def encode(self, images: jax.Array) -> tuple[jax.Array, ...]:
    """Returns (mean_q - mean_p) / std_p, which is 0 for a unit that adds nothing to the layer above."""
    layers = self.infer(images, [jnp.zeros((len(images), latents)) for latents in self.latent_dims])
    return tuple(layer.posterior.relative_to(layer.prior).mean for layer in layers)

  def posteriors(self, images: jax.Array, key: jax.Array) -> tuple[Gaussian, ...]:
    layers = self.infer(images, standard_normals(key, len(images), self.latent_dims))
    return tuple(layer.posterior.relative_to(layer.prior) for layer in layers)

  def decode(self, latents: Sequence[jax.Array]) -> jax.Array:
    values = [latents[-1]]
    for index in reversed(range(len(self.priors))):
      values.insert(0, self.prior(index, values).sample(latents[index]))
    return self.observation_model.mean(self.pixel_params(values))

  def sample(self, key: jax.Array, num_samples: int) -> jax.Array:
    return self.decode(standard_normals(key, num_samples, self.latent_dims))

  def pictures(self, key: jax.Array, images: jax.Array | None) -> dict[str, Picture]:
    """Returns layers.png: grids of samples. In grid j, samples of the same row share their top j layers."""
    del images
    return {"layers.png": held_layers(key, self.latent_dims, self.decode)}


class BatchNormMLP(nn.Module):
  """`depth` times dense, batch norm and leaky ReLU; `skips` add inputs of the same width to outputs.

  Its `batch_stats` are those of the last batch (momentum 0); the training step averages them.
  """

  width: int
  depth: int
  skips: bool

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    running = not self.is_mutable_collection("batch_stats")
    for _ in range(self.depth):
      hidden = nn.Dense(self.width, use_bias=False)(x)  # batch norm has a bias
      hidden = nn.leaky_relu(nn.BatchNorm(use_running_average=running, momentum=0.0)(hidden))
      x = x + hidden if self.skips and x.shape == hidden.shape else hidden
    return x


class GaussianHead(nn.Module):
  """Gaussian with a linear mean and a variance that is the softplus of a linear function."""

  latents: int

  @nn.compact
  def __call__(self, features: jax.Array) -> Gaussian:
    mean, raw = jnp.split(nn.Dense(2 * self.latents)(features), 2, axis=-1)
    return Gaussian(mean, 0.5 * jnp.log(nn.softplus(raw) + MIN_VARIANCE))
