"""Variational autoencoder with one layer of latents (Kingma & Welling 2014, arXiv:1312.6114).

Shapes: B batch, H W C image, Z latent.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from latentjax.config.schema import AT_LEAST_ONE, SIZES, key, one_of
from latentjax.models.base import LikelihoodModel, dense_head_problem, likelihood_key
from latentjax.models.distributions import Gaussian, standard_normal_log_prob
from latentjax.models.elbo import ELBOTerms
from latentjax.models.layers import ResidualMLP

ACTIVATIONS = {"relu": nn.relu, "tanh": nn.tanh, "silu": nn.silu}


class VAE(LikelihoodModel):
  """VAE with p(z) = N(0, I), a diagonal Gaussian q(z|x) and a `Likelihood` p(x|z). For its methods see `Model`."""

  hidden_dims: Sequence[int] = key(
    (512, 256),
    SIZES,
    "widths of the encoder from image to latents, mirrored by the decoder; residual: of the stream, then of its blocks",
    ("h", "h_dim", "hidden", "hidden_sizes", "widths"),
  )
  latent_dim: int = key(
    64, AT_LEAST_ONE, "latents of an image", ("z", "z_dim", "z_size", "latent", "latent_size", "latents")
  )
  activation: str = key("relu", one_of(*ACTIVATIONS), "activation of both networks")
  network: str = key("dense", one_of("dense", "residual"), "residual: blocks add to a stream of constant width")
  likelihood: str = likelihood_key()

  @staticmethod
  def validate(fields: Mapping[str, Any], image_shape: tuple[int, int, int] | None) -> str | None:
    return dense_head_problem(fields, image_shape)

  @staticmethod
  def display_name(fields: Mapping[str, Any]) -> str:
    del fields
    return "VAE"

  def setup(self):
    activation = ACTIVATIONS[self.activation]
    if self.network == "residual":
      stream, *widths = self.hidden_dims
      self.encoder = ResidualMLP(stream, widths, activation)
      self.decoder = ResidualMLP(stream, widths[::-1], activation)
    else:
      self.encoder = MLP(self.hidden_dims, activation)
      self.decoder = MLP(self.hidden_dims[::-1], activation)
    self.posterior = nn.Dense(2 * self.latent_dim)
    self.pixels = nn.Dense(math.prod(self.params_shape))
    super().setup()

  def __call__(self, images: jax.Array, key: jax.Array) -> ELBOTerms:
    q = self.infer(images)
    noise = jax.random.normal(key, q.mean.shape)
    z = q.sample(noise)  # [B, Z]
    pixels = self.pixel_params(z)
    return ELBOTerms(
      mean=self.observation_model.mean(pixels),
      log_px=self.observation_model.log_prob(pixels, images, self.log_scale),
      kl=q.kl_to_standard()[:, None],
      log_pz=standard_normal_log_prob(z)[:, None],
      log_qz=q.log_prob_of_sample(noise)[:, None],
    )

  def infer(self, images: jax.Array) -> Gaussian:
    """Returns q(z | x) for images [B, H, W, C]."""
    features = self.encoder(images.reshape(len(images), -1))
    return Gaussian(*jnp.split(self.posterior(features), 2, axis=-1))

  def pixel_params(self, z: jax.Array) -> jax.Array:
    """Returns the parameters [B, H, W, P] of p(x | z) for latents z [B, Z], see `Likelihood`."""
    return self.pixels(self.decoder(z)).reshape(len(z), *self.params_shape)

  def encode(self, images: jax.Array) -> tuple[jax.Array, ...]:
    return (self.infer(images).mean,)

  def posteriors(self, images: jax.Array, key: jax.Array) -> tuple[Gaussian, ...]:
    del key
    return (self.infer(images),)

  def decode(self, latents: Sequence[jax.Array]) -> jax.Array:
    return self.observation_model.mean(self.pixel_params(latents[0]))

  def sample(self, key: jax.Array, num_samples: int) -> jax.Array:
    return self.decode([jax.random.normal(key, (num_samples, self.latent_dim))])


class MLP(nn.Module):
  """Dense layers, each followed by an activation."""

  widths: Sequence[int]
  activation: Callable[[jax.Array], jax.Array]

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    for width in self.widths:
      x = self.activation(nn.Dense(width)(x))
    return x
