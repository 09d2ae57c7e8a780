"""`latentjax train`: trains a config, or with `--dry_run` prints the cost of training."""

import shlex
from pathlib import Path

import jax
from ml_collections import ConfigDict

from latentjax import models
from latentjax.cli.reference import program_name
from latentjax.data import dataset
from latentjax.runtime import distributed
from latentjax.runtime.console import console
from latentjax.runtime.cost import compile_checked, free_bytes, matmul_flops, mebibytes, needed_bytes
from latentjax.runtime.errors import RunError
from latentjax.runtime.signals import GracefulShutdown
from latentjax.training import restore, session, trainer
from latentjax.training.experiment import create_experiment
from latentjax.training.metrics import Metrics
from latentjax.training.trainer import EpochProgress
from latentjax.workdir.run import Run


def run(config: ConfigDict, workdir: Path) -> None:
  """Trains to the last epoch, evaluates the best checkpoint, and writes results and images into `workdir`."""
  with GracefulShutdown(distributed.all_max if jax.process_count() > 1 else None) as shutdown:
    session.train(config, workdir, shutdown)
  explore = f"{program_name()} explore {shlex.quote(str(workdir))}"
  console.print(f"Load it with latentjax.load({str(workdir)!r}), or explore it in a browser: {explore}")


def dry_run(config: ConfigDict, workdir: Path | None) -> None:
  """Compiles one step and prints parameters, memory and arithmetic; writes only to the cache of decoded images."""
  if workdir is not None:
    Run.open(workdir, config, models.performance_keys(config.model), may_be_new=True)
  if not dataset.is_prepared(config.data.name, config.data.image_size):
    raise RunError(f"{config.data.name} is not prepared here, and a dry run downloads nothing. Leave out --dry_run.")
  experiment = create_experiment(config)
  distributed.check_divisible(experiment.mesh, "train.batch_size", config.train.batch_size)
  state, feed = restore.initial_state(experiment), experiment.feed()
  session.describe_run(experiment, state, EpochProgress(Metrics.zero(config.train.num_seeds)), workdir=None)
  traced = experiment.train_fns.train.trace(*trainer.describe_arguments(experiment, state, feed), 1)
  compiled, flops = compile_checked(traced), matmul_flops(traced.jaxpr)
  images = config.train.num_seeds * config.train.batch_size
  needed = {name: mebibytes(count) for name, count in needed_bytes(compiled).items()}
  state_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
  epochs, steps = config.train.epochs, config.train.epochs * experiment.steps_per_epoch
  bound = "at most " if config.train.iwae_samples > 1 and config.train.iwae_start_epoch > 0 else ""
  each = f" of each of {experiment.mesh.size} devices" if experiment.mesh is not None else ""
  console.print(
    f"a step of {images:,} images: {bound}{flops / 1e9:,.2f} GFLOP in matrix products,"
    f" {flops / images / 1e6:,.2f} MFLOP per image\npeak memory{each}: {needed['peak_memory_bytes']} MiB, including"
    f" {needed['temporary_memory_bytes']} MiB temporary and {mebibytes(state_bytes)} MiB of weights, their average and"
    f" the optimizer state; {free_bytes() / 2**30:,.1f} GiB are free\n"
    f"{epochs:,} epoch{'s'[: epochs != 1]} of {experiment.steps_per_epoch:,} steps: {steps:,} steps,"
    f" {bound}{steps * flops / 1e12:,.1f} TFLOP"
  )
