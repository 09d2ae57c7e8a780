"""Pure inference functions (encode, decode, sample, log-weights) and their compiled forms.

Shapes: B batch, H W C image, L latent groups, Z_l latents of a group, K importance samples.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from latentjax.data.preprocessing import to_pixels
from latentjax.models.base import Model, Picture, Variables
from latentjax.models.elbo import ELBOTerms
from latentjax.runtime.distributed import jit_on, over_seeds, shard_batch
from latentjax.runtime.precision import at_precision

SAMPLES_PER_CHUNK = 100  # K of `log_weights`: bounds memory and the interval between progress updates
ROWS_PER_PASS = 256  # images times samples: with fewer, products are slow; with more, nothing is faster


class InferenceFns(NamedTuple):
  """The functions of this module for one model, compiled. On a mesh, results are replicated on every device.

  With S seeds, `evaluate` takes the variables of all seeds and keys [S], and returns terms with a leading axis S;
  images are shared. The other functions take one seed.
  """

  evaluate: Callable  # (variables, images [B, H, W, C], key) -> ELBOTerms
  log_weights: Callable  # (variables, images [B, H, W, C], key, count) -> [K, B], the first count rows
  encode: Callable  # (variables, images [B, H, W, C]) -> L arrays [B, Z_l]
  kl_per_unit: Callable  # (variables, images [B, H, W, C], key) -> L arrays [B, Z_l]
  decode: Callable  # (variables, L arrays [B, Z_l]) -> [B, H, W, C]
  sample: Callable  # (variables, key, count) -> [count, H, W, C]
  pictures: Callable  # (variables, key, images [M, H, W, C] or None) -> pictures by file name
  num_devices: int  # among which a batch is divided


def create_inference_fns(config: ConfigDict, model: Model, mesh: Mesh | None = None) -> InferenceFns:
  """Compiles the inference functions of a model, for the devices of a mesh or the default device."""
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


def evaluate(model: Model, mesh: Mesh | None, variables: Variables, images: jax.Array, key: jax.Array) -> ELBOTerms:
  """Returns the terms of one posterior sample for images [B, H, W, C], uint8 or floats in [0, 1]."""
  chex.assert_shape(key, ())
  return model.apply(variables, _pixels(model, mesh, images), key)


def samples_per_pass(num_images: int, mesh: Mesh | None) -> int:
  """Returns how many importance samples of all its images `log_weights` computes at once."""
  rows = ROWS_PER_PASS * (1 if mesh is None else mesh.size)
  num_passes = math.ceil(SAMPLES_PER_CHUNK / max(rows // num_images, 1))
  return math.ceil(SAMPLES_PER_CHUNK / num_passes)


def log_weights(
  model: Model, mesh: Mesh | None, variables: Variables, images: jax.Array, key: jax.Array, count: jax.Array
) -> jax.Array:
  """Returns [K, B] log importance weights log p(x, z_k) - log q(z_k | x), K = SAMPLES_PER_CHUNK.

  Only the first `count` rows are valid: one program serves any number of samples. Sample k uses fold_in(key, k). XLA
  moves what depends on the images alone out of the loop, so an encoder runs once.
  """
  chex.assert_shape(key, ())
  pixels, num_samples = _pixels(model, mesh, images), samples_per_pass(len(images), mesh)

  def one_sample(index):
    return model.apply(variables, pixels, jax.random.fold_in(key, index)).log_weight

  def one_pass(index, weights):
    start = jnp.minimum(index * num_samples, SAMPLES_PER_CHUNK - num_samples)  # the last pass may repeat rows
    several = jax.vmap(one_sample) if num_samples > 1 else lambda index: one_sample(index[0])[None]  # 7 % faster
    rows = several(start + jnp.arange(num_samples))
    return jax.lax.dynamic_update_slice_in_dim(weights, rows, start, axis=0)

  num_passes = (count + num_samples - 1) // num_samples
  return jax.lax.fori_loop(0, num_passes, one_pass, jnp.zeros((SAMPLES_PER_CHUNK, len(images))))


def encode(model: Model, mesh: Mesh | None, variables: Variables, images: jax.Array) -> tuple[jax.Array, ...]:
  """Returns L arrays [B, Z_l], see `Model.encode`."""
  return model.apply(variables, _pixels(model, mesh, images), method="encode")


def kl_per_unit(
  model: Model, mesh: Mesh | None, variables: Variables, images: jax.Array, key: jax.Array
) -> tuple[jax.Array, ...]:
  """Returns L arrays [B, Z_l] in nats: the KL of every unit given a sample of the other groups."""
  chex.assert_shape(key, ())
  posteriors = model.apply(variables, _pixels(model, mesh, images), key, method="posteriors")
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
  pixels = None if images is None else _pixels(model, None, images)
  return model.apply(variables, key, pixels, method="pictures")


def _pixels(model: Model, mesh: Mesh | None, images: jax.Array) -> jax.Array:
  """Returns images [B, H, W, C] as floats in [0, 1], divided among the devices of a mesh."""
  chex.assert_shape(images, (None, *model.image_shape))
  return to_pixels(shard_batch(mesh, images))
