"""A training from start to end: data, epochs, evaluation and pictures, in one workdir."""

import dataclasses
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import jax
from ml_collections import ConfigDict

from latentjax import models
from latentjax.config.schema import differences
from latentjax.data.dataset import Dataset
from latentjax.inference.pictures import save_images
from latentjax.inference.trained_model import first_seed
from latentjax.models.base import num_parameters
from latentjax.runtime import distributed
from latentjax.runtime.console import console
from latentjax.runtime.signals import GracefulShutdown
from latentjax.training import restore, results, trainer
from latentjax.training.experiment import Experiment, create_experiment
from latentjax.training.state import TrainState
from latentjax.training.trainer import EpochProgress
from latentjax.workdir import plots
from latentjax.workdir.checkpoints import Checkpointer
from latentjax.workdir.directory import WorkdirLock
from latentjax.workdir.metrics_log import MetricWriter
from latentjax.workdir.protocol import MetricsRow, protocol_of
from latentjax.workdir.run import Run, RunStatus
from latentjax.workdir.tables import results_table


def train(
  config: ConfigDict,
  workdir: Path,
  shutdown: GracefulShutdown,
  data: Dataset | None = None,
  callback: Callable[[MetricsRow], bool | None] | None = None,
  weights_only: bool = False,
) -> None:
  """Trains to the last epoch, evaluates the best checkpoint, and writes weights, results and pictures into `workdir`.

  Args:
    config: Checked config.
    workdir: Directory of the run, which resumes if it has started there.
    shutdown: Handler of signals; one that was not entered handles none.
    data: Images; None loads those of the config.
    callback: See `trainer.train_epochs`.
    weights_only: Write the best weights without evaluation and pictures, in a workdir that is then removed.

  Raises:
    UsageError: The workdir holds another experiment, or the data or devices do not fit the config.
    RunError: The data cannot be loaded, a file is damaged or cannot be written, or the loss became NaN or infinite.
    Interrupted: A signal was received; a checkpoint has been written.
  """
  free = models.performance_keys(config.model)
  Run.open(workdir, config, free, may_be_new=True)  # refuses another experiment before the data is loaded
  with console.buffered():
    experiment = create_experiment(config, data)
    distributed.check_divisible(experiment.mesh, "train.batch_size", config.train.batch_size)
    with WorkdirLock(workdir), console.log_to(workdir / "train.log"):
      run = Run.open(workdir, config, free, may_be_new=True)  # another process may have trained here until now
      run.check_data(experiment.data.sha256)
      checkpoints = Checkpointer(workdir / "checkpoints")
      run.check_resumable(checkpoints.latest_step)
      state, partial_epoch = restore.restore_state(experiment, checkpoints)
      epochs = trainer.epochs_done(experiment, state, partial_epoch)
      run = dataclasses.replace(run, lines=run.lines[:epochs], epochs=epochs)  # later lines are trained again
      describe_run(experiment, state, partial_epoch, None if weights_only else workdir)
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
      compiled = None if trained else trainer.compile_train(experiment, state, feed)
      run.write_config(experiment.data.image_shape, experiment.data.sha256)
      with log:
        if not trained:
          log.add_hparams(config)
          with trainer.profile_steps(compiled, config.train.profile_steps, workdir / "tensorboard") as profiled:
            state = trainer.train_epochs(
              experiment, feed, profiled, state, partial_epoch, checkpoints, best_weights, log, shutdown, callback
            )
          del feed  # frees the images on the devices
        shutdown.disarm()
      run = dataclasses.replace(run, lines=log.lines)
      seeds, loss = list(restore.select_best(experiment, checkpoints, state)), workdir / "loss.png"
      if weights_only:
        distributed.on_process_zero(lambda: results.write_weights(run, experiment, seeds))
        return

      def remove_loss() -> None:
        with suppress(OSError):
          loss.unlink()

      def draw() -> None:
        save_images(first_seed(seeds[0], run), experiment.data.test, workdir)
        plots.save(loss, plots.save_curves, {run.protocol: {config.model.name: log.lines}}, ["epoch"])

      # Results before pictures, none of which is worth the numbers, and loss.png last: if a stop leaves pictures out,
      # it is missing, and the same command draws them; see `Run.has_plots`.
      distributed.on_process_zero(remove_loss)
      results.evaluate_and_write(run, experiment, seeds)
      distributed.on_process_zero(draw)


def describe_run(experiment: Experiment, state: TrainState, partial: EpochProgress, workdir: Path | None) -> None:
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
