"""Pure inference functions (encode, decode, sample, log-weights) and their compiled forms.

Shapes: B batch, H W C image, L latent groups, Z_l latents of a group, K importance samples.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import chex
import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from latentjax.data.preprocessing import to_pixels
from latentjax.models.base import Model, Picture, Variables
from latentjax.models.elbo import ELBOTerms
from latentjax.runtime.distributed import jit_on, over_seeds, shard_batch
from latentjax.runtime.precision import at_precision


class InferenceFns(NamedTuple):
  """The functions of this module for one model, compiled. On a mesh, results are replicated on every device.

  With S seeds, `evaluate` takes the variables of all seeds and keys [S], and returns terms with a leading axis S;
  images are shared. The other functions take one seed.

  Attributes:
    evaluate: (variables, images [B, H, W, C], key) -> ELBOTerms.
    log_weights: (variables, images [B, H, W, C], keys [K]) -> [K, B].
    encode: (variables, images [B, H, W, C]) -> L arrays [B, Z_l].
    kl_per_unit: (variables, images [B, H, W, C], key) -> L arrays [B, Z_l].
    decode: (variables, L arrays [B, Z_l]) -> [B, H, W, C].
    sample: (variables, key, count) -> [count, H, W, C].
    pictures: (variables, key, images [M, H, W, C] or None) -> pictures by file name.
    num_devices: Number of devices among which a batch is divided.
  """

  evaluate: Callable
  log_weights: Callable
  encode: Callable
  kl_per_unit: Callable
  decode: Callable
  sample: Callable
  pictures: Callable
  num_devices: int


def create_inference_fns(config: ConfigDict, model: Model, mesh: Mesh | None = None) -> InferenceFns:
  """Compiles the inference functions of a model.

  Args:
    config: The whole config.
    model: The model.
    mesh: Devices to compute on; None is the default device.
  """
  jit, precise = jit_on(mesh), partial(at_precision, config.precision)
  return InferenceFns(
    evaluate=jit(precise(over_seeds(config, partial(evaluate, model, mesh), (0, None, 0)))),
    log_weights=jit(precise(partial(log_weights, model, mesh))),
    encode=jit(precise(partial(encode, model, mesh))),
    kl_per_unit=jit(precise(partial(kl_per_unit, model, mesh))),
    decode=jit(precise(partial(decode, model))),
    sample=jit(precise(partial(sample, model)), static_argnums=2),
    pictures=jit(precise(partial(pictures, model))),
    num_devices=1 if mesh is None else mesh.size,
  )


def compile_method(config: ConfigDict, model: Model, name: str, static: int | None = None) -> Callable:
  """Compiles a method that only some models have, as a function (variables, ...) on one device.

  Args:
    config: The whole config.
    model: The model.
    name: Name of the method.
    static: Index of the static argument, counted from 0 for the variables.
  """
  return jax.jit(at_precision(config.precision, partial(model.apply, method=name)), static_argnums=static)


def evaluate(model: Model, mesh: Mesh | None, variables: Variables, images: jax.Array, key: jax.Array) -> ELBOTerms:
  """Returns the terms of one posterior sample for images [B, H, W, C], uint8 or floats in [0, 1]."""
  _check_images(model, images)
  chex.assert_shape(key, ())
  return model.apply(variables, to_pixels(shard_batch(mesh, images)), key)


def log_weights(model: Model, mesh: Mesh | None, variables: Variables, images: jax.Array, keys: jax.Array) -> jax.Array:
  """Returns [K, B] log importance weights log p(x, z_k) - log q(z_k | x) for keys [K], one key at a time."""
  _check_images(model, images)
  chex.assert_rank(keys, 1)
  pixels = to_pixels(shard_batch(mesh, images))
  return jax.lax.map(lambda key: model.apply(variables, pixels, key).log_weight, keys)


def encode(model: Model, mesh: Mesh | None, variables: Variables, images: jax.Array) -> tuple[jax.Array, ...]:
  """Returns L arrays [B, Z_l], see `Model.encode`."""
  _check_images(model, images)
  return model.apply(variables, to_pixels(shard_batch(mesh, images)), method="encode")


def kl_per_unit(
  model: Model, mesh: Mesh | None, variables: Variables, images: jax.Array, key: jax.Array
) -> tuple[jax.Array, ...]:
  """Returns L arrays [B, Z_l] in nats: the KL of every unit given a sample of the other groups."""
  _check_images(model, images)
  chex.assert_shape(key, ())
  posteriors = model.apply(variables, to_pixels(shard_batch(mesh, images)), key, method="posteriors")
  return tuple(posterior.kl_per_unit() for posterior in posteriors)


def decode(model: Model, variables: Variables, latents: Sequence[jax.Array]) -> jax.Array:
  """Returns pixel means [B, H, W, C] for L arrays [B, Z_l], see `Model.decode`."""
  chex.assert_rank(latents, 2)
  chex.assert_equal_shape_prefix(latents, 1)
  return model.apply(variables, latents, method="decode")


def sample(model: Model, variables: Variables, key: jax.Array, count: int) -> jax.Array:
  """Returns pixel means [count, H, W, C] of prior samples."""
  chex.assert_shape(key, ())
  return model.apply(variables, key, count, method="sample")


def pictures(model: Model, variables: Variables, key: jax.Array, images: jax.Array | None) -> dict[str, Picture]:
  """Returns model-specific pictures, of images [M, H, W, C] if given; see `Model.pictures`."""
  chex.assert_shape(key, ())
  if images is not None:
    _check_images(model, images)
  return model.apply(variables, key, None if images is None else to_pixels(images), method="pictures")


def _check_images(model: Model, images: jax.Array) -> None:
  chex.assert_shape(images, (None, *model.image_shape))
