"""Pure inference functions (encode, decode, sample, log-weights), and their compiled forms.

Shapes: B batch, H W C image, L latent groups, Z_l latents of a group, K importance samples.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from latentjax.data.preprocessing import to_pixels
from latentjax.models.base import Model, Picture, Variables
from latentjax.models.elbo import ELBOTerms
from latentjax.runtime.distributed import jit_on, over_seeds, shard_batch
from latentjax.runtime.precision import at_precision


class InferenceFns(NamedTuple):
  """`inference.py` of one model, compiled. What comes back from a mesh each of its devices has whole.

  Of S seeds, `evaluate` takes variables of all seeds and keys [S], and returns the like; images are shared. The others
  know one seed only.

  Attributes:
    evaluate: (variables, images [B, H, W, C], key) -> Terms.
    log_weights: (variables, images [B, H, W, C], keys [K]) -> [K, B].
    encode: (variables, images [B, H, W, C]) -> L arrays [B, Z_l].
    unit_kl: (variables, images [B, H, W, C], key) -> L arrays [B, Z_l].
    decode: (variables, L arrays [B, Z_l]) -> [B, H, W, C].
    sample: (variables, key, count) -> [count, H, W, C].
    pictures: (variables, key, images [M, H, W, C] or None) -> Pictures by file name.
    num_devices: a batch is divided among so many.
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
  """Jits what a trained model is asked.

  Args:
    config: the whole config.
    mesh: the devices to work on; None is the default one.
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
  """(variables, ...) -> what a method gives that only this kind of model has; on one device.

  Args:
    static: the argument, counted from 0 for the variables, whose every value has a program of its own.
  """
  return jax.jit(at_precision(config.precision, partial(model.apply, method=name)), static_argnums=static)


def evaluate(model: Model, mesh: Mesh | None, variables: Variables, images: jax.Array, key: jax.Array) -> ELBOTerms:
  """Terms of one posterior sample for uint8 images [B, H, W, C], pixels as they are."""
  return model.apply(variables, to_pixels(shard_batch(mesh, images)), key)


def log_weights(model: Model, mesh: Mesh | None, variables: Variables, images: jax.Array, keys: jax.Array) -> jax.Array:
  """[K, B] log importance weights log p(x, z_k) - log q(z_k | x) of images as in `evaluate`, one key of K at a time."""
  pixels = to_pixels(shard_batch(mesh, images))
  return jax.lax.map(lambda key: model.apply(variables, pixels, key).log_weight, keys)


def encode(model: Model, mesh: Mesh | None, variables: Variables, images: jax.Array) -> tuple[jax.Array, ...]:
  """L arrays [B, Z_l] for images as in `evaluate`: see a model's `encode`."""
  return model.apply(variables, to_pixels(shard_batch(mesh, images)), method="encode")


def kl_per_unit(
  model: Model, mesh: Mesh | None, variables: Variables, images: jax.Array, key: jax.Array
) -> tuple[jax.Array, ...]:
  """L arrays [B, Z_l] in nats, the KL of every unit given a sample of the other groups, for images as in `evaluate`."""
  posteriors = model.apply(variables, to_pixels(shard_batch(mesh, images)), key, method="posteriors")
  return tuple(posterior.kl_per_unit() for posterior in posteriors)


def decode(model: Model, variables: Variables, latents: Sequence[jax.Array]) -> jax.Array:
  """[B, H, W, C] pixel means for L arrays [B, Z_l]: see a model's `decode`."""
  return model.apply(variables, latents, method="decode")


def sample(model: Model, variables: Variables, key: jax.Array, count: int) -> jax.Array:
  """[count, H, W, C] pixel means from the prior."""
  return model.apply(variables, key, count, method="sample")


def pictures(model: Model, variables: Variables, key: jax.Array, images: jax.Array | None) -> dict[str, Picture]:
  """What only this kind of model can show, of images as in `evaluate` or of none: see a model's `pictures`."""
  return model.apply(variables, key, None if images is None else to_pixels(images), method="pictures")
