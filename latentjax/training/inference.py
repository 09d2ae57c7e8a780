"""What a trained model is asked: pure functions of a model, its variables and arrays, which `compiled.py` compiles.

Shapes: B batch, H W C image, L latent groups, Z_l latents of a group, K importance samples.
"""

from collections.abc import Sequence

import jax
from jax.sharding import Mesh

from latentjax.data.batches import to_pixels
from latentjax.mesh import divide
from latentjax.models import Model, Terms
from latentjax.models.pictures import Picture
from latentjax.training.state import Variables


def evaluate(model: Model, mesh: Mesh | None, variables: Variables, images: jax.Array, key: jax.Array) -> Terms:
  """Terms of one posterior sample for uint8 images [B, H, W, C], pixels as they are."""
  return model.apply(variables, to_pixels(divide(mesh, images)), key)


def log_weights(model: Model, mesh: Mesh | None, variables: Variables, images: jax.Array, keys: jax.Array) -> jax.Array:
  """[K, B] log importance weights log p(x, z_k) - log q(z_k | x) of images as in `evaluate`, one key of K at a time."""
  pixels = to_pixels(divide(mesh, images))
  return jax.lax.map(lambda key: model.apply(variables, pixels, key).log_weight, keys)


def encode(model: Model, mesh: Mesh | None, variables: Variables, images: jax.Array) -> tuple[jax.Array, ...]:
  """L arrays [B, Z_l] for images as in `evaluate`: see a model's `encode`."""
  return model.apply(variables, to_pixels(divide(mesh, images)), method="encode")


def unit_kl(
  model: Model, mesh: Mesh | None, variables: Variables, images: jax.Array, key: jax.Array
) -> tuple[jax.Array, ...]:
  """L arrays [B, Z_l] in nats, the KL of every unit given a sample of the other groups, for images as in `evaluate`."""
  posteriors = model.apply(variables, to_pixels(divide(mesh, images)), key, method="posteriors")
  return tuple(posterior.unit_kl() for posterior in posteriors)


def decode(model: Model, variables: Variables, latents: Sequence[jax.Array]) -> jax.Array:
  """[B, H, W, C] pixel means for L arrays [B, Z_l]: see a model's `decode`."""
  return model.apply(variables, latents, method="decode")


def sample(model: Model, variables: Variables, key: jax.Array, count: int) -> jax.Array:
  """[count, H, W, C] pixel means from the prior."""
  return model.apply(variables, key, count, method="sample")


def pictures(model: Model, variables: Variables, key: jax.Array, images: jax.Array | None) -> dict[str, Picture]:
  """What only this kind of model can show, of images as in `evaluate` or of none: see a model's `pictures`."""
  return model.apply(variables, key, None if images is None else to_pixels(images), method="pictures")
