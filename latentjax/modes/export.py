"""--mode=export: encode, decode and sample as files that run with JAX and flatbuffers alone."""

import json
from pathlib import Path

import jax
from ml_collections import ConfigDict

from latentjax import __version__, models
from latentjax.console import console
from latentjax.errors import RunError
from latentjax.trained import load_first_seed
from latentjax.training.exported import describe_shapes, export_programs
from latentjax.workdir import record

FOLDER, SUFFIX = "export", ".jax_export"
MEANINGS = {
  "encode": "posterior means in units of the prior, one array for each group of latents, of images in [0, 1]",
  "decode": "pixel means in [0, 1] for latents as encode gives them",
  "sample": "pixel means in [0, 1] drawn from the prior, each by a seed of its own",
}


def run(config: ConfigDict, workdir: Path) -> None:
  """Writes the programs and export.json into `export/` of the workdir; needs no data.

  Raises:
    UsageError: there is no model yet, or the workdir holds a different experiment.
    RunError: it cannot be read, or the disk refused.
  """
  record.require_same(workdir, config, models.speed_keys(config.model))
  trained = load_first_seed(config, workdir)
  folder, programs = workdir / FOLDER, {}
  try:
    folder.mkdir(exist_ok=True)
  except OSError as error:
    raise RunError(f"cannot create {folder} ({error.strerror})") from None
  for name, exported in export_programs(trained.config, trained.model, trained.variables).items():
    content = bytes(exported.serialize())
    record.write_whole(folder / f"{name}{SUFFIX}", content)
    programs[name] = {
      "file": f"{name}{SUFFIX}",
      "takes": describe_shapes(exported.in_avals),
      "gives": describe_shapes(exported.out_avals),
      "meaning": MEANINGS[name],
    }
    console.print(f"  {folder / f'{name}{SUFFIX}'}  {len(content) / 1e6:.1f} MB")
  about = {
    "model": models.title(config.model),
    "data": config.data.name,
    "seed": trained.config.seed,
    "step": trained.step,
    "programs": programs,
    "call": f"jax.export.deserialize(open('encode{SUFFIX}', 'rb').read()).call(images); arrays that stand as several"
    " under `takes` or `gives` are one tuple; B is any number of images",
    "platforms": exported.platforms,
    "calling_convention": exported.calling_convention_version,
    "versions": {"latentjax": __version__, "jax": jax.__version__},
  }
  record.write_whole(folder / "export.json", json.dumps(about, indent=2) + "\n")
  console.print(f"  {folder / 'export.json'}  says how to call them")
