"""`latentjax train`: trains a config, or with `--dry_run` prints the cost of training."""

import dataclasses
import shlex
from contextlib import suppress
from pathlib import Path

import jax
from ml_collections import ConfigDict

from latentjax import models
from latentjax.cli import evaluate, sample
from latentjax.cli.reference import program_name
from latentjax.config.schema import differences
from latentjax.data import dataset
from latentjax.inference.trained_model import first_seed
from latentjax.models.base import num_parameters
from latentjax.runtime import distributed
from latentjax.runtime.console import console
from latentjax.runtime.cost import compile_checked, free_bytes, matmul_flops, mebibytes, needed_bytes
from latentjax.runtime.errors import RunError
from latentjax.runtime.signals import GracefulShutdown
from latentjax.training import restore, trainer
from latentjax.training.experiment import Experiment, create_experiment
from latentjax.training.metrics import Metrics
from latentjax.training.state import TrainState
from latentjax.training.trainer import EpochProgress
from latentjax.workdir import plots
from latentjax.workdir.checkpoints import Checkpointer
from latentjax.workdir.directory import WorkdirLock
from latentjax.workdir.metrics_log import MetricWriter
from latentjax.workdir.protocol import protocol_of
from latentjax.workdir.run import Run, RunStatus
from latentjax.workdir.tables import results_table


def run(config: ConfigDict, workdir: Path) -> None:
  """Trains to the last epoch, evaluates the best checkpoint, and writes results and images into `workdir`."""
  free = models.performance_keys(config.model)
  Run.open(workdir, config, free, may_be_new=True)  # refuses another experiment before the data is loaded
  with GracefulShutdown(distributed.all_max if jax.process_count() > 1 else None) as shutdown, console.buffered():
    experiment = create_experiment(config)
    distributed.check_divisible(experiment.mesh, "train.batch_size", config.train.batch_size)
    with WorkdirLock(workdir), console.log_to(workdir / "train.log"):
      run = Run.open(workdir, config, free, may_be_new=True)  # another process may have trained here until now
      checkpoints = Checkpointer(workdir / "checkpoints")
      run.check_resumable(checkpoints.latest_step)
      state, partial_epoch = restore_state(experiment, checkpoints)
      epochs = trainer.epochs_done(experiment, state, partial_epoch)
      run = dataclasses.replace(run, lines=run.lines[:epochs], epochs=epochs)  # later lines are trained again
      _describe_run(experiment, state, partial_epoch, workdir)
      if run.status is RunStatus.FINISHED and run.has_plots:
        console.print("There is nothing left to train. The commands evaluate and sample use the trained model.")
        if changes := differences(run.saved, config):
          console.print(f"without effect on a finished run: {'; '.join(changes)}")
        console.print(results_table(config.model.name, run.results, run.metric_names))
        return
      trained = run.status in (RunStatus.TRAINED, RunStatus.FINISHED)
      if trained:
        console.print(f"All {run.epochs} epochs are trained. Evaluating.")
      log = MetricWriter(workdir, run.epochs)  # reports a damaged file before anything is compiled
      best_weights = restore.open_weights(experiment, checkpoints, state, workdir)
      # Before config.json is written: a workdir whose step needs too much memory stays empty.
      feed = None if trained else experiment.feed()
      train = None if trained else trainer.compile_train(experiment, state, feed)
      run.write_config(experiment.data.image_shape, experiment.data.sha256)
      with log:
        if not trained:
          log.add_hparams(config)
          with trainer.profile_steps(train, config.train.profile_steps, workdir / "tensorboard") as profiled:
            state = trainer.train_epochs(
              experiment, feed, profiled, state, partial_epoch, checkpoints, best_weights, log, shutdown
            )
          del feed  # frees the images on the devices
        shutdown.disarm()
      run = dataclasses.replace(run, lines=log.lines)
      seeds, loss = list(restore.select_best(experiment, checkpoints, state)), workdir / "loss.png"

      def remove_loss() -> None:
        with suppress(OSError):
          loss.unlink()

      def draw() -> None:
        sample.save_images(first_seed(seeds[0], run), experiment.data.test, workdir)
        plots.save(loss, plots.save_curves, {run.protocol: {config.model.name: log.lines}}, ["epoch"])

      # Results before pictures, none of which is worth the numbers, and loss.png last: if a stop leaves pictures out,
      # it is missing, and the same command draws them; see `Run.has_plots`.
      distributed.on_process_zero(remove_loss)
      evaluate.evaluate_and_write(run, experiment, seeds)
      distributed.on_process_zero(draw)
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
  state, feed = _initial_state(experiment), experiment.feed()
  _describe_run(experiment, state, EpochProgress(Metrics.zero(config.train.num_seeds)), workdir=None)
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


def restore_state(experiment: Experiment, checkpoints: Checkpointer) -> tuple[TrainState, EpochProgress]:
  """Returns the state and partial epoch of the newest checkpoint, or those before the first step."""
  newest, partial_epoch = checkpoints.latest_step, EpochProgress(Metrics.zero(experiment.config.train.num_seeds))
  if newest is None:
    return _initial_state(experiment), partial_epoch
  state = checkpoints.restore(newest, experiment.train_fns.init(experiment.keys.init))
  return state, checkpoints.restore_partial(newest, partial_epoch) or partial_epoch


def _initial_state(experiment: Experiment) -> TrainState:
  """Returns the state before the first step, initialized to mean and scale of the training images."""
  pixels = experiment.data.mean_pixels(), experiment.data.std_pixels()
  return experiment.train_fns.init(experiment.keys.init, distributed.broadcast(pixels))


def _describe_run(experiment: Experiment, state: TrainState, partial: EpochProgress, workdir: Path | None) -> None:
  """Prints model, data, devices, workdir and, of a resumed run, its progress."""
  config, data, devices = experiment.config, experiment.data, jax.devices()
  protocol, num_seeds = protocol_of(config), config.train.num_seeds
  seeds = f", seeds {config.seed} to {config.seed + num_seeds - 1} together" if num_seeds > 1 else ""
  where = "nothing" if workdir is None else f"to {workdir}"
  console.print(
    f"{config.model.name}, {num_parameters(state.params) // num_seeds:,} parameters{seeds}, on"
    f" {protocol.title} ({len(data.train):,} / {len(data.validation):,} / {len(data.test):,}"
    f" images)\njax {jax.__version__} on {len(devices)} x {devices[0].device_kind}; writing {where}"
  )
  if protocol.metric_names.note:
    console.print(protocol.metric_names.note)
  done, steps, epochs = trainer.epochs_done(experiment, state, partial), int(partial.metrics.steps), config.train.epochs
  if state.step > 0 and done < epochs:
    progress = f"after epoch {done} of {epochs}"
    if steps:
      progress = f"in epoch {done + 1} of {epochs}, after {steps} of its {experiment.steps_per_epoch} steps"
    rate = float(experiment.train_fns.learning_rate(int(state.step)))  # higher than before if epochs were added
    console.print(f"resuming {progress}, at a learning rate of {rate:.2g}")
