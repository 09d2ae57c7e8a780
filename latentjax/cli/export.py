"""`latentjax export`: encode, decode and sample as files that need only JAX and flatbuffers."""

from pathlib import Path

import jax
from ml_collections import ConfigDict

from latentjax import models
from latentjax._version import __version__
from latentjax.inference.export import describe_shapes, export_programs
from latentjax.inference.trained_model import load_first_seed
from latentjax.runtime.console import console
from latentjax.runtime.fileio import dump_json, write_atomic
from latentjax.workdir.run import Run

SUFFIX = ".jax_export"

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
      "takes": describe_shapes(exported.in_avals),
      "gives": describe_shapes(exported.out_avals),
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
