"""`--mode=train`: trains a config, or with `--dry_run` reports what training would take."""

import shlex
from pathlib import Path

import jax
from ml_collections import ConfigDict

from latentjax import models
from latentjax.cli import evaluate, sample
from latentjax.config.schema import differences
from latentjax.data import dataset
from latentjax.inference.trained_model import first_seed
from latentjax.models.base import num_parameters
from latentjax.runtime import distributed
from latentjax.runtime.console import console
from latentjax.runtime.cost import compile_checked, free_bytes, matmul_flops, mebibytes, needed_bytes
from latentjax.runtime.distributed import check_divisible
from latentjax.runtime.errors import RunError, UsageError
from latentjax.runtime.signals import GracefulShutdown
from latentjax.training import restore, trainer
from latentjax.training.experiment import Experiment, create_experiment
from latentjax.training.state import TrainState
from latentjax.training.trainer import EpochProgress, profile_steps
from latentjax.workdir import plots, records, weights
from latentjax.workdir.checkpoints import Checkpointer
from latentjax.workdir.directory import WorkdirLock
from latentjax.workdir.metrics_log import MetricWriter, read_metrics, training_finished
from latentjax.workdir.protocol import MetricsRow, protocol_of
from latentjax.workdir.tables import results_table


def dry_run(config: ConfigDict, workdir: Path | None) -> None:
  """Compiles the step and prints parameters, memory and arithmetic; writes nothing but what is cached for all runs.

  Raises:
    UsageError: as `train.run` does.
    RunError: a step needs more memory than there is, or the data are not here.
  """
  if workdir is not None and (workdir / "config.json").exists():
    records.check_same_experiment(workdir, config, models.performance_keys(config.model))
  if not dataset.is_prepared(config.data.name, config.data.image_size):
    raise RunError(f"{config.data.name} is not prepared here, and a dry run downloads nothing: leave out --dry_run")
  experiment = create_experiment(config)
  check_divisible(experiment.mesh, "train.batch_size", config.train.batch_size)
  state, feed = initial_state(experiment), experiment.feed()
  describe_run(experiment, state, trainer.EpochProgress.begin(config.train.num_seeds), workdir=None)
  traced = experiment.steps.train.trace(*trainer.describe_arguments(experiment, state, feed), 1)
  compiled, flops = compile_checked(traced), matmul_flops(traced.jaxpr)
  images = config.train.num_seeds * config.train.batch_size
  needed = {name: mebibytes(count) for name, count in needed_bytes(compiled).items()}
  epochs = config.train.epochs
  steps = epochs * experiment.steps_per_epoch
  most = "at most " if config.train.iwae_samples > 1 and config.train.iwae_start_epoch > 0 else ""
  each = f" of each of {experiment.mesh.size} devices" if experiment.mesh is not None else ""
  console.print(
    f"a step of {images:,} images: {most}{flops / 1e9:,.2f} GFLOP in matrix products,"
    f" {flops / images / 1e6:,.2f} MFLOP per image\nmemory{each}: {needed['peak_memory_bytes']} MiB at its peak, of it"
    f" {needed['temporary_memory_bytes']} MiB temporary and {mebibytes(state_bytes(state))} MiB of weights,"
    f" their average and the optimiser's; {free_bytes() / 2**30:,.1f} GiB are free besides\n"
    f"{epochs:,} epoch{'s'[: epochs != 1]} of {experiment.steps_per_epoch:,} steps: {steps:,} steps,"
    f" {most}{steps * flops / 1e12:,.1f} TFLOP"
  )


def state_bytes(state) -> int:
  return sum(leaf.nbytes for leaf in jax.tree.leaves(state))


def run(config: ConfigDict, workdir: Path) -> None:
  """Trains to the end, evaluates the best checkpoint, and leaves numbers and pictures in `workdir`.

  Raises:
    UsageError: the workdir holds a different experiment, or results without a checkpoint; or a batch cannot be divided
      among the devices.
    RunError: the loss became NaN or infinite, the disk refused, or another process trains in the workdir.
    Stopped: a signal asked for it; the same call resumes from there.
  """
  if (workdir / "config.json").exists():
    records.check_same_experiment(workdir, config, models.performance_keys(config.model))
  metric_names = protocol_of(config).metric_names
  with GracefulShutdown(distributed.all_max if jax.process_count() > 1 else None) as shutdown, console.buffered():
    experiment = create_experiment(config)
    check_divisible(experiment.mesh, "train.batch_size", config.train.batch_size)
    with WorkdirLock(workdir), console.log_to(workdir / "train.log"):
      checkpoints = Checkpointer(workdir / "checkpoints")
      newest = checkpoints.latest_step
      distributed.on_process_zero(lambda: check_resumable(workdir, newest))
      state, partial_epoch = restore_state(experiment, checkpoints)
      done = trainer.epochs_done(experiment, state, partial_epoch)
      describe_run(experiment, state, partial_epoch, workdir)
      results = distributed.on_process_zero(lambda: finished_results(workdir, done))
      over = distributed.on_process_zero(lambda: training_ended(config, workdir, done))
      if over and results is not None:
        console.print("nothing left to train; --mode=evaluate and --mode=sample work on what is there")
        changed = differences(records.read_config(workdir), config, free=())
        if changed:
          console.print(f"without effect on a finished run: {'; '.join(changed)}")
        console.print(results_table(config.model.name, results, metric_names))
        return
      if over:
        console.print(f"{done} epochs are trained already: they are evaluated now")
      log = MetricWriter(workdir, done)  # a damaged one is said before anything is compiled
      best_weights = restore.open_weights(experiment, checkpoints, state, workdir)
      prepared = (
        None if over else trainer.compile_training(experiment, state)
      )  # before there is a run: what does not fit is none
      origin = records.current_provenance(experiment.data.sha256)
      ignored = models.performance_keys(config.model)
      distributed.on_process_zero(
        lambda: records.write_config(workdir, config, experiment.data.image_shape, origin, ignored)
      )
      with log:
        if prepared is not None:
          log.add_hparams(config)
          with profile_steps(prepared.train, config.train.profile_steps, workdir / "tensorboard") as step:
            prepared = prepared._replace(train=step)
            state = trainer.train_epochs(
              experiment, prepared, state, partial_epoch, checkpoints, best_weights, log, shutdown
            )
          del prepared  # and with it the images on the devices
        shutdown.disarm()
        if log.lines:  # in the first process
          plots.save_loss(workdir / "loss.png", log.lines, metric_names.terms)
      seeds = list(restore.select_best(experiment, checkpoints, state))
      distributed.on_process_zero(
        lambda: sample.draw_pictures(first_seed(seeds[0], workdir), experiment.data.test, workdir)
      )
      console.print(f"  {workdir / 'loss.png'}")
      evaluate.evaluate_and_write(
        experiment, seeds, log.lines, workdir
      )  # last: results.json says that the run is finished
  where = shlex.quote(str(workdir))
  console.print(
    f"open it by latentjax.load({str(workdir)!r}) in Python, or in a browser: --mode=explore --workdir={where}"
  )


def check_resumable(workdir: Path, newest: int | None) -> None:
  """Raises UsageError if a workdir has results without a checkpoint, or a checkpoint without what it was trained on."""
  if newest is not None and not (workdir / "config.json").exists():
    raise UsageError(
      f"{workdir} has checkpoints but no config.json that says of what: restore it, or choose another --workdir"
    )
  for name in (weights.WEIGHTS_NAME, "results.json"):
    if newest is None and (workdir / name).exists():
      raise UsageError(
        f"{workdir} has the {name} of a trained model but no checkpoint to go on from: choose another --workdir"
      )


def finished_results(workdir: Path, epochs: int) -> MetricsRow | None:
  """The results of a run that has nothing left to do after that many epochs, or None."""
  results = records.read_results(workdir)
  pictured = all((workdir / name).exists() for name in ("loss.png", "samples.png", "reconstructions.png"))
  return results if results is not None and results.get("epochs_trained") == epochs and pictured else None


def training_ended(config: ConfigDict, workdir: Path, epochs: int) -> bool:
  """Whether the training of a workdir is over after that many epochs."""
  lines = read_metrics(workdir)[:epochs] if config.train.early_stopping_patience else []
  return epochs >= config.train.epochs or training_finished(config, lines)


def restore_state(experiment: Experiment, checkpoints: Checkpointer) -> tuple[TrainState, EpochProgress]:
  """Where the run stands: at its newest checkpoint, or before its first step."""
  partial_epoch, newest = EpochProgress.begin(experiment.config.train.num_seeds), checkpoints.latest_step
  if newest is None:
    return initial_state(experiment), partial_epoch
  like = experiment.steps.init(experiment.keys.init)
  return checkpoints.restore(newest, like), checkpoints.restore_partial(newest, partial_epoch) or partial_epoch


def initial_state(experiment: Experiment) -> TrainState:
  """The state before the first step, which starts at the mean of the training images and their scale around it."""
  pixels = experiment.data.mean_pixels(), experiment.data.std_pixels()
  return experiment.steps.init(experiment.keys.init, distributed.broadcast(pixels))


def describe_run(experiment: Experiment, state: TrainState, partial_epoch: EpochProgress, workdir: Path | None) -> None:
  """Says what is about to happen, and on what; without a workdir nothing is written."""
  config, data, devices = experiment.config, experiment.data, jax.devices()
  protocol = protocol_of(config)
  num_seeds = config.train.num_seeds
  seeds = f", seeds {config.seed} to {config.seed + num_seeds - 1} together" if num_seeds > 1 else ""
  where = "nothing" if workdir is None else f"to {workdir}"
  console.print(
    f"{config.model.name}, {num_parameters(state.params) // num_seeds:,} parameters{seeds}, on"
    f" {protocol.title} ({len(data.train):,} / {len(data.validation):,} / {len(data.test):,}"
    f" images)\njax {jax.__version__} on {len(devices)} x {devices[0].device_kind}; writing {where}"
  )
  if protocol.metric_names.note:
    console.print(protocol.metric_names.note)
  done = trainer.epochs_done(experiment, state, partial_epoch)
  if state.step > 0 and done < config.train.epochs:
    steps, epochs = int(partial_epoch.metrics.steps), config.train.epochs
    within = f"in epoch {done + 1} of {epochs}, after {steps} of its {experiment.steps_per_epoch} steps"
    rate = float(experiment.steps.learning_rate(int(state.step)))  # in a run made longer it goes up again
    console.print(
      f"resuming {within if steps else f'after epoch {done} of {epochs}'}, at a learning rate of {rate:.2g}"
    )
