"""The training loop: epochs of steps, each followed by validation, a line in the log and a checkpoint.

Values in nats per image.
"""

import io
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from latentjax.data.feed import BatchFeed
from latentjax.inference import evaluation
from latentjax.models.elbo import weighted_loss
from latentjax.runtime import distributed
from latentjax.runtime.console import compiling, console, progress
from latentjax.runtime.cost import compile_checked
from latentjax.runtime.errors import RunError
from latentjax.runtime.signals import GracefulShutdown
from latentjax.training.experiment import Experiment
from latentjax.training.metrics import Metrics
from latentjax.training.state import TrainState
from latentjax.workdir import plots
from latentjax.workdir.checkpoints import Checkpointer
from latentjax.workdir.metrics_log import MetricWriter, training_finished
from latentjax.workdir.protocol import MetricsRow, aggregate_seeds, protocol_of
from latentjax.workdir.weights import BestWeights


class EpochProgress(NamedTuple):
  """An epoch so far: what a checkpoint in its middle holds besides the state.

  Attributes:
    metrics: sums over its steps; where these are all steps of the epoch, its validation is still to come.
    seconds: spent on it.
  """

  metrics: Metrics
  seconds: float

  @classmethod
  def begin(cls, num_seeds: int) -> "EpochProgress":
    return cls(Metrics.zero(num_seeds), 0.0)


class CompiledTraining(NamedTuple):
  """What a training runs: its images on their way, and `steps.train` compiled for them."""

  feed: BatchFeed
  train: Callable


def train_epochs(
  experiment: Experiment,
  prepared: CompiledTraining,
  state: TrainState,
  partial_epoch: EpochProgress,
  checkpoints: Checkpointer,
  best_weights: BestWeights,
  log: MetricWriter,
  shutdown: GracefulShutdown,
) -> TrainState:
  """Trains to the end of the last epoch, or until `train.early_stopping_patience` ends it.

  Args:
    prepared: as `prepare` makes it.
    begun: the epoch in whose middle `state` is.
    best_weights: up to date with `checkpoints`.

  Raises:
    RunError: the loss became NaN or infinite, or the disk refused.
    Stopped: after a checkpoint, if a signal came.
  """
  config, steps, keys = experiment.config, experiment.steps, experiment.keys
  metric_names, image_shape = protocol_of(config).metric_names, experiment.data.image_shape
  bound = metric_names.terms["elbo"]
  images_per_step = config.train.num_seeds * config.train.batch_size
  feed, train = prepared
  with progress() as bar:
    total = config.train.epochs * experiment.steps_per_epoch
    task = bar.add_task("training", total=total, completed=int(state.step), note="")
    for epoch in range(epochs_done(experiment, state, partial_epoch), config.train.epochs):
      with shutdown.critical_section():  # a signal waits: what an epoch has done is kept
        metrics, began = partial_epoch.metrics, time.perf_counter() - partial_epoch.seconds
        last = time.perf_counter()
        for call in feed.chunks(steps.order(keys.order, epoch), first=int(metrics.steps)):
          if shutdown.requested:
            break
          state, part = train(state, call.images, call.order, keys.train, call.count)
          part = jax.device_get(part)
          if part.divergence is not None:
            raise divergence_error(config, *part.divergence, checkpoints)
          metrics = metrics + part
          now = time.perf_counter()
          last, speed = now, call.count * images_per_step / (now - last)
          note = f"{bound} {np.mean(part.mean()['elbo']):.2f} nats, {speed:,.0f} images/s"
          bar.update(task, advance=call.count, note=note)
        train_seconds = time.perf_counter() - began
        if shutdown.requested:
          if metrics.steps > 0:
            checkpoints.save(state, partial=EpochProgress(metrics, train_seconds))
          console.print(f"stopped in epoch {epoch + 1}, after step {int(state.step)}")
          continue  # to the end of the block, which raises Stopped
        validation = validate(experiment, state)
        step, finite = int(state.step), np.isfinite(validation["elbo"])
        if not finite.all():
          raise divergence_error(config, step, int(np.argmin(finite)), checkpoints)
        splits = {"train": metrics.mean(), "validation": validation}
        line = {
          "step": step,
          "epoch": epoch + 1,
          **collect_seeds(
            config, {split: metric_names.in_bits(numbers, image_shape) for split, numbers in splits.items()}
          ),
          "beta": float(steps.beta(step - 1)),  # as the epoch's last step had them
          "learning_rate": float(steps.learning_rate(step - 1)),
          "images_per_second": int(metrics.steps) * images_per_step / train_seconds,
          "seconds": (log.lines[-1]["seconds"] if log.lines else 0.0) + time.perf_counter() - began,
        }
        log.append(line)  # before the checkpoint: a run killed in between repeats the epoch and drops this line
        checkpoints.save(state, validation.get("importance_bound", validation["elbo"]))
        best_weights.update(state, checkpoints.best)
        bits = f"  {line['validation']['bits_per_dim']:.3f} bits/dim" if metric_names.bits else ""
        console.print(
          f"epoch {epoch + 1:>3}/{config.train.epochs}  {bound} {line['train']['elbo']:8.2f} train"
          f" {line['validation']['elbo']:8.2f} validation{bits}  KL {line['validation']['kl']:6.2f}"
          f"  {line['images_per_second']:,.0f} images/s"
        )
        partial_epoch = EpochProgress.begin(config.train.num_seeds)
        if config.train.log_images_every and (epoch + 1) % config.train.log_images_every == 0:
          log.add_pictures(step, draw_samples_and_reconstructions(experiment, state))
        if config.train.early_stopping_patience and distributed.on_process_zero(
          lambda: training_finished(config, log.lines)
        ):
          if epoch + 1 < config.train.epochs:
            console.print(
              f"No better validation bound in {config.train.early_stopping_patience} epochs. Stopping early."
            )
          break
  return state


def epochs_done(experiment: Experiment, state: TrainState, partial_epoch: EpochProgress) -> int:
  """Whole epochs that the state has seen, each with its validation."""
  return int(state.step - partial_epoch.metrics.steps) // experiment.steps_per_epoch


def compile_training(experiment: Experiment, state: TrainState) -> CompiledTraining:
  """What `run_epochs` needs; it holds the images on the devices for as long as it is kept.

  Another number of steps than the calls of a whole epoch have is compiled when it comes: after a stop in mid-epoch of a
  run whose calls were of other lengths.

  Raises:
    RunError: a step needs more memory than there is.
  """
  feed = experiment.feed()
  return CompiledTraining(feed, compile_train(experiment, state, feed))


def compile_train(experiment: Experiment, state: TrainState, feed: BatchFeed) -> Callable:
  """`steps.train`, compiled ahead so that no measured speed contains it; raises as `prepare` does."""
  began = time.perf_counter()
  described = describe_arguments(experiment, state, feed)

  @cache
  def compiled(count: int) -> jax.stages.Compiled:
    return compile_checked(experiment.steps.train.trace(*described, count))

  with compiling():
    for count in feed.counts:
      compiled(count)
  console.print(f"compiled in {time.perf_counter() - began:.1f} s")
  return lambda *arguments: compiled(arguments[-1])(*arguments[:-1])


def describe_arguments(experiment: Experiment, state: TrainState, feed: BatchFeed) -> tuple[Any, ...]:
  """What a compiler needs to know of `steps.train`'s arguments but the last, which themselves may be gone by then."""

  def describe(x):
    placed = getattr(x, "committed", False)  # what is not goes where the others are
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding if placed else None)

  call = next(feed.chunks(experiment.steps.order(experiment.keys.order, 0), 0))
  return jax.tree.map(describe, (state, call.images, call.order, experiment.keys.train))


def validate(experiment: Experiment, state: TrainState) -> dict[str, Any]:
  """The true bound on the validation split; of several seeds trained together a list of each number.

  `loss` is what training minimises, with the KL weighed as in the last step; importance-weighted training has none.
  From `iwae_start_epoch` on it has `importance_bound`, that of as many samples, by which the best epoch is then chosen:
  it lies above the ELBO of the same weights.
  """
  config = experiment.config
  numbers = evaluation.evaluate_elbo(
    experiment.inference, state.variables, experiment.data.validation, experiment.keys.evaluate, config.eval.batch_size
  )
  numbers.pop("elbo_stderr")  # every epoch has the same images and noise: it would say nothing of their differences
  kl = np.array(numbers.pop("kl_per_group"))  # of a bottom-up hierarchy it is sampled, and may be negative
  if config.train.iwae_samples > 1:
    partial_epoch = state.step > config.train.iwae_start_epoch * experiment.steps_per_epoch
    return numbers | ({"importance_bound": importance_bound(experiment, state)} if partial_epoch else {})
  beta = float(experiment.steps.beta(state.step - 1))
  loss = weighted_loss(np.array(numbers["reconstruction"]), kl, beta, config.train.free_bits)
  return {"loss": loss.tolist(), **numbers}


def importance_bound(experiment: Experiment, state: TrainState) -> float | list[float]:
  """The importance-weighted bound on the validation split, with as many samples as in training; a list of seeds'."""
  config, num_seeds = experiment.config, experiment.config.train.num_seeds

  def of_one(variables, key):
    images, kept = experiment.data.validation, [config.train.iwae_samples]
    bounds = evaluation.log_likelihoods(
      experiment.inference, variables, images, key, config.eval.batch_size, kept, report=lambda count: None
    )
    return float(bounds.mean(dtype=np.float64))

  if num_seeds == 1:
    return of_one(state.variables, experiment.keys.evaluate)
  return [of_one(state.of_seed(index).variables, experiment.keys.evaluate[index]) for index in range(num_seeds)]


def collect_seeds(config: ConfigDict, splits: dict[str, dict[str, Any]]) -> MetricsRow:
  """An epoch's numbers, which of several seeds are lists, as metrics.jsonl has them."""
  if config.train.num_seeds == 1:
    return splits

  def of_seed(index):
    return {split: {name: values[index] for name, values in numbers.items()} for split, numbers in splits.items()}

  return aggregate_seeds({config.seed + index: of_seed(index) for index in range(config.train.num_seeds)})


def divergence_error(config: ConfigDict, step: int, index: int, checkpoints: Checkpointer) -> RunError:
  """What to say of the seed with that index."""
  newest = checkpoints.latest_step
  whose = f" of seed {config.seed + index}" if config.train.num_seeds > 1 else ""
  kept = "no checkpoint had been written" if newest is None else f"the checkpoint of step {newest} is kept"
  return RunError(
    f"the loss{whose} became NaN or infinite at step {step}; {kept}."
    " Try a lower train.learning_rate or train.clip_norm in a new workdir"
  )


def draw_samples_and_reconstructions(experiment: Experiment, state: TrainState) -> dict[str, bytes]:
  """Sheets of samples and of validation images with reconstructions, as PNG; of the first of several seeds.

  They take no part in training. On one device the programs are those that draw the run's last pictures, compiled once
  for both.
  """
  one, count = experiment.per_seed[0], experiment.config.sample.num_images
  variables = (state if experiment.config.train.num_seeds == 1 else state.of_seed(0)).variables
  prior_key, posterior_key = jax.random.split(jax.random.fold_in(one.keys.sample, 0))
  samples = one.inference.sample(variables, prior_key, count)
  images, columns = experiment.data.validation[:count], math.ceil(math.sqrt(count))
  means = one.inference.evaluate(variables, images, posterior_key).mean
  sheets = io.BytesIO(), io.BytesIO()
  plots.save_grid(sheets[0], jax.device_get(samples), columns)
  plots.save_reconstructions(sheets[1], images / 255, jax.device_get(means), columns)
  return {name: sheet.getvalue() for name, sheet in zip(("samples", "reconstructions"), sheets, strict=True)}


@contextmanager
def profile_steps(train: Callable, num_steps: int, directory: Path) -> Iterator[Callable]:
  """`steps.train`, compiled, that writes a `jax.profiler` trace of its first calls, of `num_steps` steps at least.

  Of several processes that are one run the first writes.

  Args:
    num_steps: 0 writes none.
    directory: `plugins/profile/` is made there.
  """
  left, running = num_steps if jax.process_index() == 0 else 0, False

  def finish() -> None:
    nonlocal running
    running = False
    jax.profiler.stop_trace()
    console.print(f"  {directory / 'plugins' / 'profile'}  {num_steps - left} steps")

  def call(state, images, order, key, count):
    nonlocal left, running
    if left > 0 and not running:
      jax.profiler.start_trace(str(directory))
      running = True
    result = train(state, images, order, key, count)
    if running:
      jax.block_until_ready(result)
      left -= int(count)
      if left <= 0:
        finish()
    return result

  try:
    yield call
  finally:
    if running:  # the training was shorter
      finish()
