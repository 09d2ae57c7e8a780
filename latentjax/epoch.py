"""One pass over the training images, and what is known at its end. Values in nats per image."""

import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from latentjax.console import console
from latentjax.data.feed import Feed
from latentjax.experiment import Experiment
from latentjax.training import evaluation
from latentjax.training.state import TrainState
from latentjax.training.step import Metrics
from latentjax.workdir import record, seeds


class Epoch(NamedTuple):
  """An epoch so far: what a checkpoint in its middle holds besides the state.

  Attributes:
    metrics: sums over its steps; where these are all steps of the epoch, its validation is still to come.
    seconds: spent on it.
  """

  metrics: Metrics
  seconds: float


def compile_train(experiment: Experiment, state: TrainState, feed: Feed) -> Callable:
  """`steps.train`, compiled ahead so that no measured speed contains it."""
  steps, keys = experiment.steps, experiment.keys
  began = time.perf_counter()
  call = next(feed.calls(steps.order(keys.order, 0), 0))
  compiled = steps.train.lower(state, call.images, call.order, keys.train, jnp.int32(1)).compile()
  console.print(f"compiled in {time.perf_counter() - began:.1f} s")
  return compiled


def train(
  experiment: Experiment,
  advance: Callable,
  state: TrainState,
  metrics: Metrics,
  feed: Feed,
  epoch: int,
  report: Callable[[int, str], None],
  stop: Callable[[], bool],
) -> tuple[TrainState, Metrics]:
  """The rest of one pass over the training images, a call of many steps at a time; ends early if a loss is no number.

  Args:
    advance: compiled `steps.train`.
    metrics: sums over the epoch's steps that `state` has seen already.
    feed: of the experiment.
    report: called with the steps done and a note after every call.
    stop: asked before every call whether to end early.
  """
  config = experiment.config.train
  order = experiment.steps.order(experiment.keys.order, epoch)
  metrics = jax.device_get(metrics)
  began = time.perf_counter()
  for count, images, order_of_call in feed.calls(order, first=int(metrics.steps)):
    if stop():
      break
    state, part = advance(state, images, order_of_call, experiment.keys.train, jnp.int32(count))
    part = jax.device_get(part)
    metrics = metrics + part
    if part.divergence is not None:
      break
    began, seconds = time.perf_counter(), time.perf_counter() - began
    speed = count * config.num_seeds * config.batch_size / seconds
    report(count, f"ELBO {np.mean(part.mean()['elbo']):.2f} nats, {speed:,.0f} images/s")
  return state, metrics


def validate(experiment: Experiment, state: TrainState) -> evaluation.Numbers:
  """The true bound on the validation split, and its loss: the same terms with the KL weighed as in the last step.

  Of several seeds trained together a list of each number.
  With importance-weighted training it is still this one-sample loss, which the training loss is not.
  """
  config, steps = experiment.config, experiment.steps
  numbers = evaluation.bound(
    steps, state.variables, experiment.data.validation, experiment.keys.evaluate, config.eval.batch_size
  )
  kl = numbers.pop("kl_per_group")  # of a bottom-up hierarchy it is sampled, and may be negative
  if config.train.free_bits > 0:
    kl = np.maximum(kl, config.train.free_bits)
  loss = numbers["reconstruction"] + float(steps.beta(state.step - 1)) * np.sum(kl, -1)
  return {"loss": loss.tolist(), **numbers}


def trained_bound(experiment: Experiment, state: TrainState, validation: evaluation.Numbers) -> float | list[float]:
  """What makes a checkpoint the best: on the validation split, the bound that its last step was trained with.

  That of K importance samples is never below the ELBO. Of several seeds trained together a list.

  Args:
    validation: as `validate` returned it.
  """
  config, data, steps, key = experiment.config, experiment.data, experiment.steps, experiment.keys.evaluate
  weighted = config.train.importance_samples > 1
  if not weighted or state.step <= config.train.importance_start * experiment.steps_per_epoch:
    return validation["elbo"]

  def of_one(state, key):
    count = config.train.importance_samples
    numbers = evaluation.negative_log_likelihood(
      steps, state.variables, data.validation, key, config.eval.batch_size, count, report=lambda count: None
    )
    return -numbers["nll"]

  if config.train.num_seeds == 1:
    return of_one(state, key)
  return [of_one(state.of_seed(index), key[index]) for index in range(config.train.num_seeds)]


def summarise(config: ConfigDict, splits: dict[str, evaluation.Numbers]) -> record.Line:
  """An epoch's numbers, which of several seeds are lists, as metrics.jsonl has them."""
  if config.train.num_seeds == 1:
    return splits

  def of_seed(index):
    return {split: {name: values[index] for name, values in numbers.items()} for split, numbers in splits.items()}

  return seeds.summarise({config.seed + index: of_seed(index) for index in range(config.train.num_seeds)})
