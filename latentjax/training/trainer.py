"""Training loop: epochs of steps, each followed by validation, a metrics row and a checkpoint.

Values in nats per image.
"""

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
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
from latentjax.workdir.protocol import MetricsRow, aggregate_seeds, finite_metrics, protocol_of
from latentjax.workdir.weights import BestWeights


class EpochProgress(NamedTuple):
  """Progress within an epoch; saved with the state by mid-epoch checkpoints.

  Attributes:
    metrics: Sums over the steps so far. After all steps of the epoch, validation is still to come.
    seconds: Time spent on the epoch so far.
  """

  metrics: Metrics
  seconds: float = 0.0


def train_epochs(
  experiment: Experiment,
  feed: BatchFeed,
  train: Callable,
  state: TrainState,
  partial_epoch: EpochProgress,
  checkpoints: Checkpointer,
  best_weights: BestWeights,
  log: MetricWriter,
  shutdown: GracefulShutdown,
  callback: Callable[[MetricsRow], bool | None] | None = None,
) -> TrainState:
  """Trains until the last epoch or early stopping.

  Args:
    feed: As returned by `Experiment.feed`.
    train: As returned by `compile_train`.
    state: State to start from; donated.
    partial_epoch: Progress within the current epoch.
    best_weights: Writer of the weights files, up to date with `checkpoints`.
    callback: Called after every epoch with its row of metrics.jsonl; True stops the training.

  Returns:
    The last state.

  Raises:
    RunError: The loss became NaN or infinite, or a file could not be written.
    Interrupted: A signal was received; a checkpoint has been written.
  """
  config, train_fns, keys = experiment.config, experiment.train_fns, experiment.keys
  metric_names, image_shape = protocol_of(config).metric_names, experiment.data.image_shape
  bound = metric_names.terms["elbo"]
  images_per_step, patience = config.train.num_seeds * config.train.batch_size, config.train.early_stopping_patience
  with progress() as bar:
    total = config.train.epochs * experiment.steps_per_epoch
    task = bar.add_task("training", total=total, completed=int(state.step), note="")
    for epoch in range(epochs_done(experiment, state, partial_epoch), config.train.epochs):
      with shutdown.critical_section():  # signals are handled at its end, after a checkpoint
        metrics, started = partial_epoch.metrics, time.perf_counter() - partial_epoch.seconds
        last = time.perf_counter()
        for chunk in feed.chunks(train_fns.order(keys.order, epoch), first=int(metrics.steps)):
          if shutdown.requested:
            break
          state, chunk_metrics = train(state, chunk.images, chunk.order, keys.train, chunk.count)
          chunk_metrics = jax.device_get(chunk_metrics)
          if chunk_metrics.divergence is not None:
            raise _divergence_error(config, *chunk_metrics.divergence, checkpoints)
          metrics = metrics + chunk_metrics
          now = time.perf_counter()
          last, images_per_second = now, chunk.count * images_per_step / (now - last)
          note = f"{bound} {np.mean(chunk_metrics.mean()['elbo']):.2f} nats, {images_per_second:,.0f} images/s"
          bar.update(task, advance=chunk.count, note=note)
        train_seconds = time.perf_counter() - started
        if shutdown.requested:
          if metrics.steps > 0:
            checkpoints.save(state, partial=EpochProgress(metrics, train_seconds))
          console.print(f"stopped in epoch {epoch + 1}, after step {int(state.step)}")
          continue  # to the end of the critical section, which raises Interrupted
        validation = validate(experiment, state)
        step, selecting = int(state.step), validation.get("importance_bound", validation["elbo"])
        finite = np.isfinite(validation["elbo"]) & np.isfinite(selecting)
        if not finite.all():
          raise _divergence_error(config, step, int(np.argmin(finite)), checkpoints)
        splits = {"train": metrics.mean(), "validation": validation}
        splits = {split: metric_names.in_bits(values, image_shape) for split, values in splits.items()}
        row = {
          "step": step,
          "epoch": epoch + 1,
          **_collect_seeds(config, splits),
          "beta": float(train_fns.beta(step - 1)),  # of the epoch's last step
          "learning_rate": float(train_fns.learning_rate(step - 1)),
          "images_per_second": int(metrics.steps) * images_per_step / train_seconds,
          "seconds": (log.lines[-1]["seconds"] if log.lines else 0.0) + time.perf_counter() - started,
        }
        log.append(row)  # before the checkpoint: a run killed in between repeats the epoch and drops this row
        checkpoints.save(state, selecting)
        best_weights.update(state, checkpoints.best_steps)
        bits = f"  {row['validation']['bits_per_dim']:.3f} bits/dim" if metric_names.bits else ""
        console.print(
          f"epoch {epoch + 1:>3}/{config.train.epochs}  {bound} {np.mean(splits['train']['elbo']):8.2f} train"
          f" {row['validation']['elbo']:8.2f} validation{bits}  KL {row['validation']['kl']:6.2f}"
          f"  {row['images_per_second']:,.0f} images/s"
        )
        partial_epoch = EpochProgress(Metrics.zero(config.train.num_seeds))
        if config.train.log_images_every and (epoch + 1) % config.train.log_images_every == 0:
          log.add_pictures(step, _draw_samples_and_reconstructions(experiment, state))
        if callback is not None and distributed.on_process_zero(lambda: bool(callback(copy.deepcopy(log.lines[-1])))):
          break
        if patience and distributed.on_process_zero(lambda: training_finished(config, log.lines)):
          if epoch + 1 < config.train.epochs:
            console.print(f"No better validation bound in {patience} epochs. Stopping early.")
          break
  return state


def epochs_done(experiment: Experiment, state: TrainState, partial_epoch: EpochProgress) -> int:
  """Returns the number of complete epochs, including their validation."""
  return int(state.step - partial_epoch.metrics.steps) // experiment.steps_per_epoch


def compile_train(experiment: Experiment, state: TrainState, feed: BatchFeed) -> Callable:
  """Compiles `TrainFns.train` ahead of time, so that measured speeds exclude compilation.

  Chunks of other lengths than those of a whole epoch are compiled on demand: when training resumes in mid-epoch after
  `train.steps_per_call` was changed.

  Raises:
    RunError: A step needs more memory than is free.
  """
  started = time.perf_counter()
  shapes = describe_arguments(experiment, state, feed)

  @cache
  def compile_count(count: int) -> jax.stages.Compiled:
    return compile_checked(experiment.train_fns.train.trace(*shapes, count))

  with compiling():
    for count in feed.counts:
      compile_count(count)
  console.print(f"compiled in {time.perf_counter() - started:.1f} s")
  return lambda *args: compile_count(args[-1])(*args[:-1])


def describe_arguments(experiment: Experiment, state: TrainState, feed: BatchFeed) -> tuple[Any, ...]:
  """Returns shapes and shardings of the arguments of `TrainFns.train` but the count."""

  def describe(x):
    committed = getattr(x, "committed", False)  # uncommitted arrays follow the others
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding if committed else None)

  chunk = next(feed.chunks(experiment.train_fns.order(experiment.keys.order, 0), 0))
  return jax.tree.map(describe, (state, chunk.images, chunk.order, experiment.keys.train))


def validate(experiment: Experiment, state: TrainState) -> dict[str, Any]:
  """Evaluates the true bound on the validation split; with several seeds, each metric is a list.

  Training without importance weighting adds `loss`, the training loss with the KL weight of the last step. With it,
  from `iwae_start_epoch` on, `importance_bound` is the bound with as many samples as in training; the best epoch is
  then selected by it, since it is tighter than the ELBO.
  """
  config = experiment.config
  metrics = evaluation.evaluate_elbo(
    experiment.inference, state.variables, experiment.data.validation, experiment.keys.evaluate, config.eval.batch_size
  )
  metrics.pop("elbo_stderr")  # all epochs share images and noise, so it says nothing about their differences
  kl = np.array(metrics.pop("kl_per_group"))
  if config.train.iwae_samples > 1:
    importance_weighted = state.step > config.train.iwae_start_epoch * experiment.steps_per_epoch
    return metrics | ({"importance_bound": _importance_bound(experiment, state)} if importance_weighted else {})
  beta = float(experiment.train_fns.beta(state.step - 1))
  loss = weighted_loss(np.array(metrics["reconstruction"]), kl, beta, config.train.free_bits)
  return {"loss": loss.tolist(), **metrics}


def _importance_bound(experiment: Experiment, state: TrainState) -> float | list[float]:
  """Evaluates the importance-weighted bound on the validation split; with several seeds, a list."""
  config, keys, num_seeds = experiment.config, experiment.keys.evaluate, experiment.config.train.num_seeds

  def evaluate(state, key):
    args = experiment.inference, state.variables, experiment.data.validation, key, config.eval.batch_size
    bounds = evaluation.log_likelihoods(*args, [config.train.iwae_samples], report=lambda count: None)
    return float(bounds.mean(dtype=np.float64))

  if num_seeds == 1:
    return evaluate(state, keys)
  return [evaluate(state.of_seed(index), keys[index]) for index in range(num_seeds)]


def _collect_seeds(config: ConfigDict, splits: dict[str, dict[str, Any]]) -> MetricsRow:
  """Returns metrics by split in the format of metrics.jsonl; with several seeds, each metric is a list."""
  if config.train.num_seeds == 1:
    return finite_metrics(splits)

  def of_seed(index):
    metrics = {split: {name: values[index] for name, values in metrics.items()} for split, metrics in splits.items()}
    return finite_metrics(metrics, f" for seed {config.seed + index}")

  return aggregate_seeds({config.seed + index: of_seed(index) for index in range(config.train.num_seeds)})


def _divergence_error(config: ConfigDict, step: int, seed_index: int, checkpoints: Checkpointer) -> RunError:
  latest = checkpoints.latest_step
  seed = f" of seed {config.seed + seed_index}" if config.train.num_seeds > 1 else ""
  checkpoint = "no checkpoint had been written" if latest is None else f"the checkpoint of step {latest} is kept"
  return RunError(
    f"The loss{seed} became NaN or infinite at step {step}; {checkpoint}."
    " Try a lower train.learning_rate or train.clip_norm in a new workdir."
  )


def _draw_samples_and_reconstructions(experiment: Experiment, state: TrainState) -> dict[str, bytes]:
  """Draws samples, and reconstructions of validation images, as PNG; with several seeds, of the first.

  On one device the pictures at the end of the run reuse the same compiled functions.
  """
  single, count = experiment.per_seed[0], experiment.config.sample.num_images
  variables = (state if experiment.config.train.num_seeds == 1 else state.of_seed(0)).variables
  prior_key, posterior_key = jax.random.split(jax.random.fold_in(single.keys.sample, 0))
  samples = single.inference.sample(variables, prior_key, count)
  images, columns = experiment.data.validation[:count], math.ceil(math.sqrt(count))
  means = single.inference.evaluate(variables, images, posterior_key).mean
  pairs = images / 255, jax.device_get(means)
  pictures = {
    "samples": plots.png("samples", plots.save_grid, jax.device_get(samples), columns),
    "reconstructions": plots.png("reconstructions", plots.save_reconstructions, *pairs, columns),
  }
  return {name: picture for name, picture in pictures.items() if picture}


@contextmanager
def profile_steps(train: Callable, num_steps: int, directory: Path) -> Iterator[Callable]:
  """Wraps a compiled `TrainFns.train` to write a `jax.profiler` trace of its first steps, on process 0.

  Args:
    train: Compiled training function.
    num_steps: Minimum number of steps; 0 disables profiling.
    directory: Parent of `plugins/profile/`.
  """
  done, num_steps = 0, num_steps if jax.process_index() == 0 else 0
  with ExitStack() as trace:  # closed after the last profiled step, or when training ends early

    def profiled(*args):
      nonlocal done
      if done >= num_steps:
        return train(*args)
      if done == 0:
        trace.callback(lambda: console.print(f"  {directory / 'plugins' / 'profile'}  {done} steps"))
        trace.enter_context(jax.profiler.trace(str(directory)))
      result = jax.block_until_ready(train(*args))
      done += args[-1]
      if done >= num_steps:
        trace.close()
      return result

    yield profiled
