"""--mode=train: the training loop. The same command with the same workdir goes on where it stopped."""

import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from latentjax import experiment as experiments
from latentjax.console import console, progress
from latentjax.errors import RunError
from latentjax.experiment import Experiment
from latentjax.modes import evaluate, sample
from latentjax.training import evaluation
from latentjax.training.state import TrainState
from latentjax.training.step import NEVER, Metrics
from latentjax.workdir import plots, record
from latentjax.workdir.checkpoint import Checkpoints


def run(config: ConfigDict, workdir: Path) -> None:
  """Trains to the last epoch, evaluates the best checkpoint, and leaves numbers and pictures in `workdir`.

  Raises:
    UsageError: the workdir holds a different experiment.
    RunError: the loss stopped being a number, or the disk refused.
  """
  experiment = experiments.create(config)
  record.claim(workdir, config)
  with Checkpoints(workdir / "checkpoints") as checkpoints:
    state = experiment.steps.init(experiment.keys.init)
    if checkpoints.newest is not None:
      state = checkpoints.restore(checkpoints.newest, state)
    done = int(state.step) // experiment.steps_per_epoch
    describe(experiment, state, workdir, done)
    with record.MetricsLog(workdir, done) as log:
      if done < config.train.epochs:
        train(experiment, state, checkpoints, log)
      plots.save_loss(workdir / "loss.png", log.lines)
    best = checkpoints.restore(checkpoints.best, state)
  evaluate.finish(experiment, best, workdir)
  sample.finish(experiment, best, workdir)


def describe(experiment: Experiment, state: TrainState, workdir: Path, done: int) -> None:
  """Says what is about to happen."""
  config, data = experiment.config, experiment.data
  parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
  console.print(
    f"{config.model.name} with {parameters:,} parameters on {config.data.name}, {config.data.binarization} binarisation:"
    f" {len(data.train):,} / {len(data.validation):,} / {len(data.test):,} images"
  )
  if done:
    console.print(f"going on after epoch {done} of {config.train.epochs} in {workdir}")


def train(experiment: Experiment, state: TrainState, checkpoints: Checkpoints, log: record.MetricsLog) -> None:
  """Runs epochs until the last, each followed by validation, a line in the log and a checkpoint."""
  config, steps, keys = experiment.config, experiment.steps, experiment.keys
  per_epoch = experiment.steps_per_epoch
  images = jax.device_put(experiment.data.train)
  epoch = int(state.step) // per_epoch
  order = steps.order(keys.order, epoch)

  started = time.perf_counter()
  advance = steps.train.lower(state, images, order, keys.train, jnp.int32(1)).compile()
  console.print(f"compiled in {time.perf_counter() - started:.1f} s")

  seconds = log.lines[-1]["seconds"] if log.lines else 0.0
  with progress() as bar:
    total = config.train.epochs * per_epoch
    task = bar.add_task("training", total=total, completed=int(state.step), note="")
    while epoch < config.train.epochs:
      began = time.perf_counter()
      order = steps.order(keys.order, epoch)
      metrics = Metrics.zero()
      for first in range(0, per_epoch, config.train.steps_per_call):
        count = min(config.train.steps_per_call, per_epoch - first)
        called = time.perf_counter()
        state, part = advance(state, images, order, keys.train, jnp.int32(count))
        part = jax.device_get(part)
        if part.diverged_at != NEVER:
          raise diverged(int(part.diverged_at), checkpoints)
        metrics = metrics + part
        speed = count * config.train.batch_size / (time.perf_counter() - called)
        bar.update(task, advance=count, note=f"elbo {part.mean()['elbo']:.2f} nats, {speed:,.0f} images/s")
      trained = time.perf_counter() - began
      epoch += 1

      validation = validate(experiment, state)
      if not np.isfinite(validation["loss"]):
        raise diverged(int(state.step), checkpoints)
      seconds += time.perf_counter() - began
      line = {
        "step": int(state.step),
        "epoch": epoch,
        "train": metrics.mean(),
        "validation": {name: validation[name] for name in ("loss", "elbo", "kl", "reconstruction")},
        "beta": float(steps.beta(state.step)),
        "learning_rate": float(steps.learning_rate(state.step)),
        "images_per_second": per_epoch * config.train.batch_size / trained,
        "seconds": seconds,
      }
      log.append(line)  # before the checkpoint: a run killed in between repeats this epoch, and drops this line
      checkpoints.save(state, validation["elbo"])
      console.print(
        f"epoch {epoch:>3}/{config.train.epochs}  elbo {line['train']['elbo']:8.2f} train"
        f" {validation['elbo']:8.2f} validation  kl {validation['kl']:6.2f}"
        f"  {line['images_per_second']:,.0f} images/s"
      )


def validate(experiment: Experiment, state: TrainState) -> dict[str, float]:
  """The true bound on the validation split, and the loss: the same numbers weighed as training weighs them."""
  config = experiment.config
  numbers = evaluation.bound(
    experiment.steps, state.eval_params, experiment.data.validation, experiment.keys.evaluate, config.eval.batch_size
  )
  kl = np.maximum(numbers["kl_per_group"], config.train.free_bits).sum()
  return numbers | {"loss": numbers["reconstruction"] + float(experiment.steps.beta(state.step)) * float(kl)}


def diverged(step: int, checkpoints: Checkpoints) -> RunError:
  kept = (
    "no checkpoint was kept yet"
    if checkpoints.newest is None
    else f"the checkpoint of step {checkpoints.newest} is kept"
  )
  return RunError(
    f"the loss or its gradient became NaN or infinite at step {step}; {kept}:"
    " lower train.learning_rate or train.clip_norm and start anew in another workdir"
  )
