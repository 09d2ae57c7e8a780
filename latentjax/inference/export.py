"""Export of a trained model as StableHLO programs that include its weights and run without latentjax.

Shapes: B batch (symbolic), H W C image, L latent groups, Z_l latents of a group.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from ml_collections import ConfigDict

from latentjax.inference import functions
from latentjax.models.base import Model, Variables
from latentjax.runtime.precision import at_precision
from latentjax.runtime.rng import create_key

PLATFORMS = ("cpu", "cuda", "tpu")


def export_programs(config: ConfigDict, model: Model, variables: Variables) -> dict[str, export.Exported]:
  """Exports a model, with the variables of one seed, for all `PLATFORMS` and any batch size B.

  Each program maps a function of one image over the batch, because models use the number of images as a Python int.

  Returns:
    Programs by name:

      encode: (images [B, H, W, C] float32 in [0, 1]) -> tuple of L arrays [B, Z_l], see `Model.encode`
      decode: (tuple of L arrays [B, Z_l]) -> pixel means [B, H, W, C]
      sample: (seeds [B] uint32) -> pixel means [B, H, W, C] of prior samples, one per seed
  """

  def encode(image):
    return tuple(group[0] for group in functions.encode(model, None, variables, image[None]))

  def decode(latents):
    return functions.decode(model, variables, [group[None] for group in latents])[0]

  def sample(seed):
    return functions.sample(model, variables, create_key(seed), 1)[0]

  image = jax.ShapeDtypeStruct(model.image_shape, jnp.float32)
  seed = jax.ShapeDtypeStruct((), jnp.uint32)
  examples = {encode: image, decode: jax.eval_shape(encode, image), sample: seed}
  (batch,), programs = export.symbolic_shape("B"), {}
  for function, example in examples.items():
    batched = jax.tree.map(lambda x: jax.ShapeDtypeStruct((batch, *x.shape), x.dtype), example)
    compiled = jax.jit(at_precision(config.precision, jax.vmap(function)))
    programs[function.__name__] = export.export(compiled, platforms=PLATFORMS)(batched)
  return programs


def describe_shapes(avals) -> list[str]:
  """Returns inputs or outputs of a program as text, such as float32[B,28,28,1]."""
  return [f"{np.dtype(aval.dtype).name}[{','.join(map(str, aval.shape))}]" for aval in avals]
