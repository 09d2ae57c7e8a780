"""--mode=train --dry_run: what training would take of this machine, by one step of it."""

from pathlib import Path

import jax
from ml_collections import ConfigDict

from latentjax import experiment as experiments
from latentjax import loop, models
from latentjax.console import console
from latentjax.data import dataset
from latentjax.errors import RunError
from latentjax.mesh import require_divisible
from latentjax.modes import train
from latentjax.training import memory
from latentjax.training.flops import matmul_flops
from latentjax.workdir import record


def run(config: ConfigDict, workdir: Path | None) -> None:
  """Compiles the step and prints parameters, memory and arithmetic; writes nothing but what is cached for all runs.

  Raises:
    UsageError: as `train.run` does.
    RunError: a step needs more memory than there is, or the data are not here.
  """
  if workdir is not None and (workdir / "config.json").exists():
    record.require_same(workdir, config, models.speed_keys(config.model))
  if not dataset.prepared(config.data.name, config.data.image_size):
    raise RunError(f"{config.data.name} is not prepared here, and a dry run downloads nothing: leave out --dry_run")
  experiment = experiments.create(config)
  require_divisible(experiment.mesh, "train.batch_size", config.train.batch_size)
  state, feed = train.first_state(experiment), experiment.feed()
  train.describe(experiment, state, loop.Epoch.begin(config.train.num_seeds), workdir=None)
  traced = experiment.steps.train.trace(*loop.describe_arguments(experiment, state, feed), 1)
  compiled, flops = memory.compile_to_fit(traced), matmul_flops(traced.jaxpr)
  images = config.train.num_seeds * config.train.batch_size
  needed = {name: memory.mebibytes(count) for name, count in memory.needed_bytes(compiled).items()}
  epochs = config.train.epochs
  steps = epochs * experiment.steps_per_epoch
  most = "at most " if config.train.importance_samples > 1 and config.train.importance_start > 0 else ""
  each = f" of each of {experiment.mesh.size} devices" if experiment.mesh is not None else ""
  console.print(
    f"a step of {images:,} images: {most}{flops / 1e9:,.2f} GFLOP in matrix products,"
    f" {flops / images / 1e6:,.2f} MFLOP per image\nmemory{each}: {needed['peak_memory_bytes']} MiB at its peak, of it"
    f" {needed['temporary_memory_bytes']} MiB temporary and {memory.mebibytes(state_bytes(state))} MiB of weights,"
    f" their average and the optimiser's; {memory.free_bytes() / 2**30:,.1f} GiB are free besides\n"
    f"{epochs:,} epoch{'s'[: epochs != 1]} of {experiment.steps_per_epoch:,} steps: {steps:,} steps,"
    f" {most}{steps * flops / 1e12:,.1f} TFLOP"
  )


def state_bytes(state) -> int:
  return sum(leaf.nbytes for leaf in jax.tree.leaves(state))
