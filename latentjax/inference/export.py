"""A trained model as StableHLO programs, weights inside, that run where latentjax is not installed.

Shapes: B batch, of any size, H W C image, L latent groups, Z_l latents of a group.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from ml_collections import ConfigDict

from latentjax.inference import functions
from latentjax.models.base import Model, Variables
from latentjax.runtime.precision import at_precision

PLATFORMS = ("cpu", "cuda", "tpu")


def export_programs(config: ConfigDict, model: Model, variables: Variables) -> dict[str, export.Exported]:
  """Programs for every one of `PLATFORMS` and every B, by name.

      encode    (images [B, H, W, C] float32 in [0, 1]) -> tuple of L arrays [B, Z_l]: see a model's `encode`
      decode    (tuple of L arrays [B, Z_l]) -> [B, H, W, C] pixel means
      sample    (seeds [B] uint32) -> [B, H, W, C] pixel means from the prior, each by its own seed

  Each is the program of one image over a batch: a model may ask for the number of images, which has no value here.

  Args:
    config: the whole config; of it only `precision` counts.
    variables: of one seed.
  """

  def encode(image):
    return tuple(group[0] for group in functions.encode(model, None, variables, image[None]))

  def decode(latents):
    return functions.decode(model, variables, [group[None] for group in latents])[0]

  def sample(seed):
    return functions.sample(model, variables, jax.random.key(seed), 1)[0]

  image = jax.ShapeDtypeStruct(model.image_shape, jnp.float32)
  seed = jax.ShapeDtypeStruct((), jnp.uint32)
  programs = {"encode": (encode, image), "decode": (decode, jax.eval_shape(encode, image)), "sample": (sample, seed)}
  return {name: export_over_batch(config.precision, function, of_one) for name, (function, of_one) in programs.items()}


def export_over_batch(precision: str, function: Callable, of_one) -> export.Exported:
  """A function of one example as a program of B.

  Args:
    of_one: shapes and types of its argument.
  """
  (batch,) = export.symbolic_shape("B")
  of_many = jax.tree.map(lambda x: jax.ShapeDtypeStruct((batch, *x.shape), x.dtype), of_one)
  compiled = jax.jit(at_precision(precision, jax.vmap(function)))
  return export.export(compiled, platforms=PLATFORMS)(of_many)


def describe_shapes(avals) -> list[str]:
  """Arrays that a program takes or gives, such as float32[B,28,28,1]."""
  return [f"{np.dtype(aval.dtype).name}[{','.join(map(str, aval.shape))}]" for aval in avals]
