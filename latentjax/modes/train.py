"""--mode=train: the training loop. The same command with the same workdir goes on where it stopped."""

import time
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from latentjax import epoch as epochs
from latentjax import experiment as experiments
from latentjax import processes
from latentjax.console import console, progress, results_table
from latentjax.epoch import Epoch
from latentjax.errors import RunError
from latentjax.experiment import Experiment
from latentjax.interruption import Interruption
from latentjax.mesh import require_divisible
from latentjax.modes import evaluate, sample
from latentjax.training.state import TrainState
from latentjax.training.step import Metrics
from latentjax.workdir import plots, provenance, record
from latentjax.workdir.checkpoint import Checkpoints
from latentjax.workdir.lock import Lock
from latentjax.workdir.metrics import MetricsLog


def run(config: ConfigDict, workdir: Path) -> None:
  """Trains to the last epoch, evaluates the best checkpoint, and leaves numbers and pictures in `workdir`.

  Raises:
    UsageError: the workdir holds a different experiment, or a batch cannot be divided among the devices.
    RunError: the loss stopped being a number, the disk refused, or another process trains in the workdir.
    Stopped: a signal asked for it; the same call goes on from there.
  """
  if (workdir / "config.json").exists():
    record.require_same(workdir, config)
  with Interruption(processes.greatest if jax.process_count() > 1 else None) as interruption:
    experiment = experiments.create(config)
    require_divisible(experiment.mesh, "train.batch_size", config.train.batch_size)
    with Lock(workdir):
      checkpoints = Checkpoints(workdir / "checkpoints")
      state, begun = restore(experiment, checkpoints)
      done = epochs_done(experiment, state, begun)
      describe(experiment, state, begun, workdir)
      results = processes.once(lambda: finished(workdir, done))
      if done >= config.train.epochs and results is not None:
        console.print("nothing left to train; --mode=evaluate and --mode=sample work on what is there")
        console.print(results_table(config.model.name, results))
        return
      processes.once(lambda: record.claim(workdir, config, provenance.collect(experiment.data.sha256)))
      with MetricsLog(workdir, done) as log:
        if done < config.train.epochs:
          state = train(experiment, state, begun, checkpoints, log, interruption)
        if log.lines:  # in the first process
          plots.save_loss(workdir / "loss.png", log.lines)
      best = list(evaluate.pick_best(experiment, checkpoints, state))
      processes.once(lambda: sample.finish(*best[0], workdir))
      console.print(f"  {workdir / 'loss.png'}")
      evaluate.finish(best, workdir)  # last: results.json says that the run is finished


def finished(workdir: Path, epochs: int) -> record.Line | None:
  """The results of a run that has nothing left to do after that many epochs, or None."""
  results = record.read_results(workdir)
  pictured = all((workdir / name).exists() for name in ("loss.png", "samples.png", "reconstructions.png"))
  return results if results is not None and results["epochs_trained"] == epochs and pictured else None


def restore(experiment: Experiment, checkpoints: Checkpoints) -> tuple[TrainState, Epoch]:
  """Where the run stands: at its newest checkpoint, or before its first step."""
  newest = checkpoints.newest
  mean = experiment.data.mean if newest is None else None
  state = experiment.steps.init(experiment.keys.init, mean)
  begun = Epoch(Metrics.zero(experiment.config.train.num_seeds), 0.0)
  if newest is None:
    return state, begun
  return checkpoints.restore(newest, state), checkpoints.restore_partial(newest, begun) or begun


def epochs_done(experiment: Experiment, state: TrainState, begun: Epoch) -> int:
  """Whole epochs that the state has seen, each with its validation."""
  return int(state.step - begun.metrics.steps) // experiment.steps_per_epoch


def describe(experiment: Experiment, state: TrainState, begun: Epoch, workdir: Path) -> None:
  """Says what is about to happen, and on what."""
  config, data, devices = experiment.config, experiment.data, jax.devices()
  num_seeds = config.train.num_seeds
  parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params)) // num_seeds
  seeds_said = f", seeds {config.seed} to {config.seed + num_seeds - 1} together" if num_seeds > 1 else ""
  console.print(
    f"{config.model.name}, {parameters:,} parameters{seeds_said}, on {config.data.name} ({config.data.binarization}"
    f" binarisation, {len(data.train):,} / {len(data.validation):,} / {len(data.test):,} images)\n"
    f"jax {jax.__version__} on {len(devices)} x {devices[0].device_kind}; writing to {workdir}"
  )
  if state.step > 0:
    steps = f" and {int(begun.metrics.steps)} steps" if begun.metrics.steps > 0 else ""
    console.print(f"going on after epoch {epochs_done(experiment, state, begun)}{steps} of {config.train.epochs}")


def train(
  experiment: Experiment,
  state: TrainState,
  begun: Epoch,
  checkpoints: Checkpoints,
  log: MetricsLog,
  interruption: Interruption,
) -> TrainState:
  """Runs epochs until the last, each followed by validation, a line in the log and a checkpoint.

  Args:
    begun: the epoch in whose middle `state` is.

  Raises:
    RunError: the loss stopped being a number, or the disk refused.
    Stopped: after a checkpoint, if a signal came.
  """
  config, steps, num_seeds = experiment.config, experiment.steps, experiment.config.train.num_seeds
  feed = experiment.feed()
  advance = epochs.compile_train(experiment, state, feed)
  seconds = log.lines[-1]["seconds"] if log.lines else 0.0
  with progress() as bar:
    total = config.train.epochs * experiment.steps_per_epoch
    task = bar.add_task("training", total=total, completed=int(state.step), note="")
    for epoch in range(epochs_done(experiment, state, begun), config.train.epochs):
      (metrics, earlier), begun = begun, Epoch(Metrics.zero(num_seeds), 0.0)
      began = time.perf_counter()
      with interruption.held():  # a signal waits: what an epoch has done is kept
        state, metrics = epochs.train(
          experiment,
          advance,
          state,
          metrics,
          feed,
          epoch,
          report=lambda count, note: bar.update(task, advance=count, note=note),
          stop=lambda: interruption.asked,
        )
        trained = earlier + time.perf_counter() - began
        if metrics.divergence is not None:
          raise diverged(config, *metrics.divergence, checkpoints)
        if interruption.asked:
          if metrics.steps > 0:
            checkpoints.save(state, partial=Epoch(metrics, trained))
          console.print(f"stopped in epoch {epoch + 1}, after step {int(state.step)}")
          continue  # to the end of the block, which raises Stopped
        validation = epochs.validate(experiment, state)
        step = int(state.step)
        finite = np.isfinite(validation["loss"])
        if not finite.all():
          raise diverged(config, step, int(np.argmin(finite)), checkpoints)
        seconds += earlier + time.perf_counter() - began
        line = {
          "step": step,
          "epoch": epoch + 1,
          **epochs.summarise(config, {"train": metrics.mean(), "validation": validation}),
          "beta": float(steps.beta(step - 1)),  # as the epoch's last step had them
          "learning_rate": float(steps.learning_rate(step - 1)),
          "images_per_second": int(metrics.steps) * num_seeds * config.train.batch_size / trained,
          "seconds": seconds,
        }
        log.append(line)  # before the checkpoint: a run killed in between repeats the epoch and drops this line
        checkpoints.save(state, epochs.trained_bound(experiment, state, validation))
        console.print(
          f"epoch {epoch + 1:>3}/{config.train.epochs}  ELBO {line['train']['elbo']:8.2f} train"
          f" {line['validation']['elbo']:8.2f} validation  KL {line['validation']['kl']:6.2f}"
          f"  {line['images_per_second']:,.0f} images/s"
        )
  return state


def diverged(config: ConfigDict, step: int, index: int, checkpoints: Checkpoints) -> RunError:
  """What to say of the seed with that index."""
  newest = checkpoints.newest
  whose = f" of seed {config.seed + index}" if config.train.num_seeds > 1 else ""
  kept = "no checkpoint had been written" if newest is None else f"the checkpoint of step {newest} is kept"
  return RunError(
    f"the loss{whose} became NaN or infinite at step {step}; {kept}."
    " Try a lower train.learning_rate or train.clip_norm in a new workdir"
  )
