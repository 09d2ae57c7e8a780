"""--mode=train: the training loop. The same command with the same workdir goes on where it stopped."""

import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from latentjax import experiment as experiments
from latentjax.console import console, progress, results_table
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
  if (workdir / "config.json").exists():
    record.require_same(workdir, config)
  experiment = experiments.create(config)
  with Checkpoints(workdir / "checkpoints") as checkpoints:
    state = experiment.steps.init(experiment.keys.init)
    if checkpoints.newest is not None:
      state = checkpoints.restore(checkpoints.newest, state)
    done = int(state.step) // experiment.steps_per_epoch
    describe(experiment, state, workdir, done)
    results = record.read_results(workdir) or {}
    pictured = all((workdir / name).exists() for name in ("loss.png", "samples.png", "reconstructions.png"))
    if done >= config.train.epochs and results.get("epochs_trained") == done and pictured:
      console.print("nothing left to train; --mode=evaluate and --mode=sample work on what is there")
      console.print(results_table(config.model.name, results))
      return
    record.claim(workdir, config)
    with record.MetricsLog(workdir, done) as log:
      if done < config.train.epochs:
        state = train(experiment, state, checkpoints, log)
      if log.lines:
        plots.save_loss(workdir / "loss.png", log.lines)
    best = evaluate.settle(experiment, checkpoints.restore(checkpoints.best, state))
  evaluate.finish(experiment, best, workdir)
  console.print(f"  {workdir / 'loss.png'}")
  sample.finish(experiment, best, workdir)


def describe(experiment: Experiment, state: TrainState, workdir: Path, done: int) -> None:
  """Says what is about to happen, and on what."""
  config, data, device = experiment.config, experiment.data, jax.devices()[0]
  parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
  console.print(
    f"{config.model.name}, {parameters:,} parameters, on {config.data.name} ({config.data.binarization} binarisation,"
    f" {len(data.train):,} / {len(data.validation):,} / {len(data.test):,} images)\n"
    f"jax {jax.__version__} on {device.device_kind}; writing to {workdir}"
  )
  if done:
    console.print(f"going on after epoch {done} of {config.train.epochs}")


def train(experiment: Experiment, state: TrainState, checkpoints: Checkpoints, log: record.MetricsLog) -> TrainState:
  """Runs epochs until the last, each followed by validation, a line in the log and a checkpoint."""
  config, steps = experiment.config, experiment.steps
  images = jax.device_put(experiment.data.train)
  advance = compile_train(experiment, state, images)
  seconds = log.lines[-1]["seconds"] if log.lines else 0.0
  first = int(state.step) // experiment.steps_per_epoch
  with progress() as bar:
    total = config.train.epochs * experiment.steps_per_epoch
    task = bar.add_task("training", total=total, completed=int(state.step), note="")
    for epoch in range(first, config.train.epochs):
      began = time.perf_counter()
      state, metrics = train_epoch(
        experiment, advance, state, images, epoch, lambda count, note: bar.update(task, advance=count, note=note)
      )
      trained = time.perf_counter() - began
      validation = validate(experiment, state)
      step = int(state.step)
      diverged_at = step if metrics.diverged_at == NEVER else int(metrics.diverged_at)
      if metrics.diverged_at != NEVER or not np.isfinite(validation["loss"]):
        raise diverged(diverged_at, checkpoints)
      seconds += time.perf_counter() - began
      line = {
        "step": step,
        "epoch": epoch + 1,
        "train": metrics.mean(),
        "validation": validation,
        "beta": float(steps.beta(step - 1)),  # as the epoch's last step had them
        "learning_rate": float(steps.learning_rate(step - 1)),
        "images_per_second": int(metrics.steps) * config.train.batch_size / trained,
        "seconds": seconds,
      }
      log.append(line)  # before the checkpoint: a run killed in between repeats the epoch and drops this line
      checkpoints.save(state, validation["elbo"])
      console.print(
        f"epoch {epoch + 1:>3}/{config.train.epochs}  ELBO {line['train']['elbo']:8.2f} train"
        f" {validation['elbo']:8.2f} validation  KL {validation['kl']:6.2f}  {line['images_per_second']:,.0f} images/s"
      )
  return state


def compile_train(experiment: Experiment, state: TrainState, images: jax.Array) -> Callable:
  """`steps.train`, compiled ahead so that no measured speed contains it."""
  steps, keys = experiment.steps, experiment.keys
  began = time.perf_counter()
  order = steps.order(keys.order, 0)
  compiled = steps.train.lower(state, images, order, keys.train, jnp.int32(1)).compile()
  console.print(f"compiled in {time.perf_counter() - began:.1f} s")
  return compiled


def train_epoch(
  experiment: Experiment,
  advance: Callable,
  state: TrainState,
  images: jax.Array,
  epoch: int,
  report: Callable[[int, str], None],
) -> tuple[TrainState, Metrics]:
  """One pass over the training images, a call of many steps at a time; stops early once a loss is no number.

  Args:
    advance: compiled `steps.train`.
    images: [M, H, W, C] uint8 on the device.
    report: called with the steps done and a note after every call.
  """
  config, per_epoch = experiment.config.train, experiment.steps_per_epoch
  order = experiment.steps.order(experiment.keys.order, epoch)
  metrics = jax.device_get(Metrics.zero())
  for first in range(0, per_epoch, config.steps_per_call):
    count = min(config.steps_per_call, per_epoch - first)
    began = time.perf_counter()
    state, part = advance(state, images, order, experiment.keys.train, jnp.int32(count))
    part = jax.device_get(part)
    metrics = metrics + part
    if part.diverged_at != NEVER:
      break
    speed = count * config.batch_size / (time.perf_counter() - began)
    report(count, f"ELBO {part.mean()['elbo']:.2f} nats, {speed:,.0f} images/s")
  return state, metrics


def validate(experiment: Experiment, state: TrainState) -> dict[str, float]:
  """The true bound on the validation split, and its loss: the same terms with the KL weighed as in the last step.

  With importance-weighted training it is still this one-sample loss, which the training loss is not.
  """
  config, steps = experiment.config, experiment.steps
  numbers = evaluation.bound(
    steps, state.variables, experiment.data.validation, experiment.keys.evaluate, config.eval.batch_size
  )
  kl = float(np.maximum(numbers.pop("kl_per_group"), config.train.free_bits).sum())
  return {"loss": numbers["reconstruction"] + float(steps.beta(state.step - 1)) * kl, **numbers}


def diverged(step: int, checkpoints: Checkpoints) -> RunError:
  newest = checkpoints.newest
  kept = "no checkpoint had been written" if newest is None else f"the checkpoint of step {newest} is kept"
  return RunError(
    f"the loss became NaN or infinite at step {step}; {kept}."
    " Try a lower train.learning_rate or train.clip_norm in a new workdir"
  )
