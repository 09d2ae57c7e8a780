"""What training carries from step to step, and the optimiser that changes it."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from ml_collections import ConfigDict

from latentjax.training.muon import muon

Params = dict[str, Any]
Variables = dict[str, Params]


@struct.dataclass
class TrainState:
  """Everything that a checkpoint holds; of S seeds trained together, all but `step` has a leading axis S.

  Attributes:
    step: optimiser steps done, int32 scalar.
    params: the model's weights.
    average: exponential moving average of params, or None where it is off.
    stats: running average of the batch statistics of batch norm; empty for a model without.
    opt_state: Optax's state.
  """

  step: jax.Array
  params: Params
  average: Params | None
  stats: Params
  opt_state: optax.OptState

  @property
  def variables(self) -> Variables:
    """What to evaluate with: the averaged weights if there are any, and the running statistics."""
    params = self.params if self.average is None else self.average
    return {"params": params, "batch_stats": self.stats}

  def of_seed(self, index: int) -> "TrainState":
    """The state of one of the seeds trained together."""
    return jax.tree.map(lambda x: x[index], self.replace(step=None)).replace(step=self.step)


def num_parameters(params: Params) -> int:
  """How many numbers the weights of one seed are."""
  return sum(leaf.size for leaf in jax.tree.leaves(params))


SEED_AXES = TrainState(step=None, params=0, average=0, stats=0, opt_state=0)  # of the state of several seeds


def create_state(
  model,
  optimizer: optax.GradientTransformation,
  ema_decay: float,
  key: jax.Array,
  pixels: tuple[jax.Array, jax.Array] | None = None,
) -> TrainState:
  """The state before the first step, with weights drawn from `key`.

  Args:
    model: as `models.create` returns it.
    pixels: mean [H, W, C] of the training images in [0, 1] and deviation [C] from it, at which the model starts; None
      leaves its weights as they are drawn.
  """
  init_key, sample_key = jax.random.split(key)
  variables = model.init(init_key, jnp.zeros((1, *model.image_shape)), sample_key)
  params = variables["params"]
  if pixels is not None:
    params = model.start_at(params, *pixels)
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    average=jax.tree.map(jnp.copy, params) if ema_decay > 0 else None,  # a copy: both are donated
    stats=variables.get("batch_stats", {}),
    opt_state=optimizer.init(params),
  )


def update_average(average: Params, params: Params, step: jax.Array, decay: float) -> Params:
  """Moving average with decay min(decay, (1 + step)/(10 + step)), so that early weights are forgotten soon."""
  current = jnp.minimum(decay, (1 + step) / (10 + step))
  return optax.incremental_update(params, average, 1 - current)


def learning_rate_schedule(config: ConfigDict, steps_per_epoch: int) -> optax.Schedule:
  """Constant up to `decay_start` epochs, then down to 0 at `decay_end` by `config.schedule`.

  Times a factor that rises step by step from near 0 to 1 over the first `warmup_epochs`.

  Args:
    config: `config.train`; a `decay_end` of 0 means `epochs`.
  """
  start = config.decay_start * steps_per_epoch
  length = max((config.decay_end or config.epochs) * steps_per_epoch - start, 1)
  decays = {
    "constant": optax.constant_schedule(config.learning_rate),
    "linear": optax.linear_schedule(config.learning_rate, 0.0, length),
    "cosine": optax.cosine_decay_schedule(config.learning_rate, length),
  }
  decayed = optax.join_schedules([optax.constant_schedule(config.learning_rate), decays[config.schedule]], [start])
  warmup_steps = config.warmup_epochs * steps_per_epoch
  if warmup_steps == 0:
    return decayed
  return lambda step: decayed(step) * jnp.minimum(1, (step + 1) / warmup_steps)


def create_optimizer(
  config: ConfigDict, schedule: optax.Schedule, stacked: Mapping[str, int]
) -> optax.GradientTransformation:
  """Adam or Muon after clipping the gradient's global norm; `clip_norm` 0 turns clipping off.

  Args:
    config: `config.train`.
    stacked: as a model has it.
  """
  clip = clip_by_global_norm(config.clip_norm) if config.clip_norm > 0 else optax.identity()
  if config.optimizer == "muon":
    return optax.chain(clip, muon(schedule, config.adam_b1, stacked))
  return optax.chain(clip, optax.adam(schedule, b1=config.adam_b1))


def clip_by_global_norm(limit: float) -> optax.GradientTransformation:
  """`optax.clip_by_global_norm` by one factor, where that divides and selects every number: 4 % of a VAE's step."""

  def clip(gradient, state, params=None):
    del params
    factor = jnp.minimum(1, limit / norm(gradient))
    return jax.tree.map(lambda x: factor * x, gradient), state

  return optax.GradientTransformation(lambda params: optax.EmptyState(), clip)


def norm(gradient: Params) -> jax.Array:
  """Euclidean norm of all numbers together.

  On a CPU of each array by itself; elsewhere all are joined first, where each would be two launches.
  """
  return jax.lax.platform_dependent(gradient, cpu=optax.tree.norm, default=norm_of_joined)


def norm_of_joined(gradient: Params) -> jax.Array:
  return jnp.sqrt(jnp.square(jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(gradient)])).sum())
