"""`latentjax export`: encode, decode and sample as StableHLO programs that include their weights and need only JAX.

Shapes: B batch (symbolic), H W C image, L latent groups, Z_l latents of a group.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from ml_collections import ConfigDict

from latentjax import models
from latentjax._version import __version__
from latentjax.inference import functions
from latentjax.inference.trained_model import load_first_seed
from latentjax.models.base import Model, Variables
from latentjax.runtime.console import console
from latentjax.runtime.fileio import dump_json, write_atomic
from latentjax.runtime.precision import at_precision
from latentjax.runtime.rng import create_key
from latentjax.workdir.run import Run

SUFFIX = ".jax_export"
PLATFORMS = ("cpu", "cuda", "tpu")

DESCRIPTIONS = {
  "encode": "posterior means in units of the prior, one array per latent group, of images in [0, 1]",
  "decode": "pixel means in [0, 1] for latents as returned by encode",
  "sample": "pixel means in [0, 1] of prior samples, one per seed",
}


def run(config: ConfigDict, workdir: Path) -> None:
  """Writes the programs and export.json into `export/` of the workdir; needs no data."""
  trained = load_first_seed(Run.open(workdir, config, models.performance_keys(config.model)))
  folder, programs = workdir / "export", {}
  folder.mkdir(exist_ok=True)
  for name, exported in export_programs(trained.config, trained.model, trained.variables).items():
    content = bytes(exported.serialize())
    write_atomic(folder / f"{name}{SUFFIX}", content)
    programs[name] = {
      "file": f"{name}{SUFFIX}",
      "takes": _describe_shapes(exported.in_avals),
      "gives": _describe_shapes(exported.out_avals),
      "meaning": DESCRIPTIONS[name],
    }
    console.print(f"  {folder / f'{name}{SUFFIX}'}  {len(content) / 1e6:.1f} MB")
  manifest = {
    "model": models.display_name(config.model),
    "data": config.data.name,
    "seed": trained.config.seed,
    "step": trained.step,
    "programs": programs,
    "call": f"jax.export.deserialize(open('encode{SUFFIX}', 'rb').read()).call(images); several arrays under `takes` or"
    " `gives` are one tuple; B is any number of images",
    "platforms": exported.platforms,
    "calling_convention": exported.calling_convention_version,
    "versions": {"latentjax": __version__, "jax": jax.__version__},
  }
  write_atomic(folder / "export.json", dump_json(manifest))
  console.print(f"  {folder / 'export.json'}  describes how to call them")


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


def _describe_shapes(avals) -> list[str]:
  """Returns inputs or outputs of a program as text, such as float32[B,28,28,1]."""
  return [f"{np.dtype(aval.dtype).name}[{','.join(map(str, aval.shape))}]" for aval in avals]
