"""--mode=train: trains a config. The same command with the same workdir resumes where it stopped."""

import shlex
from pathlib import Path

import jax
from ml_collections import ConfigDict

from latentjax import best, loop, models, processes
from latentjax import config as configs
from latentjax import experiment as experiments
from latentjax.console import console, results_table
from latentjax.errors import UsageError
from latentjax.experiment import Experiment
from latentjax.interruption import Interruption
from latentjax.loop import Epoch
from latentjax.mesh import require_divisible
from latentjax.modes import evaluate, sample
from latentjax.trained import first_seed
from latentjax.training.state import TrainState, num_parameters
from latentjax.workdir import ending, plots, provenance, record, weights
from latentjax.workdir.checkpoint import Checkpoints
from latentjax.workdir.figures import protocol_of
from latentjax.workdir.lock import Lock
from latentjax.workdir.metrics import MetricsLog
from latentjax.workdir.profile import profiled


def run(config: ConfigDict, workdir: Path) -> None:
  """Trains to the end, evaluates the best checkpoint, and leaves numbers and pictures in `workdir`.

  Raises:
    UsageError: the workdir holds a different experiment, or results without a checkpoint; or a batch cannot be divided
      among the devices.
    RunError: the loss became NaN or infinite, the disk refused, or another process trains in the workdir.
    Stopped: a signal asked for it; the same call resumes from there.
  """
  if (workdir / "config.json").exists():
    record.require_same(workdir, config, models.speed_keys(config.model))
  figures = protocol_of(config).figures
  with Interruption(processes.maximum if jax.process_count() > 1 else None) as interruption, console.noted():
    experiment = experiments.create(config)
    require_divisible(experiment.mesh, "train.batch_size", config.train.batch_size)
    with Lock(workdir), console.kept_in(workdir / "train.log"):
      checkpoints = Checkpoints(workdir / "checkpoints")
      newest = checkpoints.newest
      processes.on_primary(lambda: require_resumable(workdir, newest))
      state, begun = restore(experiment, checkpoints)
      done = loop.epochs_done(experiment, state, begun)
      describe(experiment, state, begun, workdir)
      results = processes.on_primary(lambda: finished(workdir, done))
      over = processes.on_primary(lambda: ended(config, workdir, done))
      if over and results is not None:
        console.print("nothing left to train; --mode=evaluate and --mode=sample work on what is there")
        changed = configs.differences(record.read_config(workdir), config, free=())
        if changed:
          console.print(f"without effect on a finished run: {'; '.join(changed)}")
        console.print(results_table(config.model.name, results, figures))
        return
      if over:
        console.print(f"{done} epochs are trained already: they are evaluated now")
      log = MetricsLog(workdir, done)  # a damaged one is said before anything is compiled
      best_weights = best.open_weights(experiment, checkpoints, state, workdir)
      prepared = None if over else loop.prepare(experiment, state)  # before there is a run: what does not fit is none
      origin = provenance.current(experiment.data.sha256)
      ignored = models.speed_keys(config.model)
      processes.on_primary(lambda: record.write_config(workdir, config, experiment.data.image_shape, origin, ignored))
      with log:
        if prepared is not None:
          log.add_hparams(config)
          with profiled(prepared.train, config.train.profile_steps, workdir / "tensorboard") as step:
            prepared = prepared._replace(train=step)
            state = loop.run_epochs(experiment, prepared, state, begun, checkpoints, best_weights, log, interruption)
          del prepared  # and with it the images on the devices
        interruption.release()
        if log.lines:  # in the first process
          plots.save_loss(workdir / "loss.png", log.lines, figures.terms)
      seeds = list(best.pick(experiment, checkpoints, state))
      processes.on_primary(lambda: sample.finish(first_seed(seeds[0], workdir), experiment.data.test, workdir))
      console.print(f"  {workdir / 'loss.png'}")
      evaluate.finish(experiment, seeds, log.lines, workdir)  # last: results.json says that the run is finished
  where = shlex.quote(str(workdir))
  console.print(
    f"open it by latentjax.load({str(workdir)!r}) in Python, or in a browser: --mode=explore --workdir={where}"
  )


def require_resumable(workdir: Path, newest: int | None) -> None:
  """Raises UsageError if a workdir has results without a checkpoint, or a checkpoint without what it was trained on."""
  if newest is not None and not (workdir / "config.json").exists():
    raise UsageError(
      f"{workdir} has checkpoints but no config.json that says of what: restore it, or choose another --workdir"
    )
  for name in (weights.NAME, "results.json"):
    if newest is None and (workdir / name).exists():
      raise UsageError(
        f"{workdir} has the {name} of a trained model but no checkpoint to go on from: choose another --workdir"
      )


def finished(workdir: Path, epochs: int) -> record.Line | None:
  """The results of a run that has nothing left to do after that many epochs, or None."""
  results = record.read_results(workdir)
  pictured = all((workdir / name).exists() for name in ("loss.png", "samples.png", "reconstructions.png"))
  return results if results is not None and results.get("epochs_trained") == epochs and pictured else None


def ended(config: ConfigDict, workdir: Path, epochs: int) -> bool:
  """Whether the training of a workdir is over after that many epochs."""
  lines = record.read_lines(workdir)[:epochs] if config.train.patience else []
  return epochs >= config.train.epochs or ending.over(config, lines)


def restore(experiment: Experiment, checkpoints: Checkpoints) -> tuple[TrainState, Epoch]:
  """Where the run stands: at its newest checkpoint, or before its first step."""
  begun, newest = Epoch.begin(experiment.config.train.num_seeds), checkpoints.newest
  if newest is None:
    return first_state(experiment), begun
  like = experiment.steps.init(experiment.keys.init)
  return checkpoints.restore(newest, like), checkpoints.restore_partial(newest, begun) or begun


def first_state(experiment: Experiment) -> TrainState:
  """The state before the first step, which starts at the mean of the training images and their scale around it."""
  pixels = experiment.data.mean_pixels(), experiment.data.std_pixels()
  return experiment.steps.init(experiment.keys.init, processes.broadcast(pixels))


def describe(experiment: Experiment, state: TrainState, begun: Epoch, workdir: Path | None) -> None:
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
  if protocol.figures.note:
    console.print(protocol.figures.note)
  done = loop.epochs_done(experiment, state, begun)
  if state.step > 0 and done < config.train.epochs:
    steps, epochs = int(begun.metrics.steps), config.train.epochs
    within = f"in epoch {done + 1} of {epochs}, after {steps} of its {experiment.steps_per_epoch} steps"
    rate = float(experiment.steps.learning_rate(int(state.step)))  # in a run made longer it goes up again
    console.print(
      f"resuming {within if steps else f'after epoch {done} of {epochs}'}, at a learning rate of {rate:.2g}"
    )
