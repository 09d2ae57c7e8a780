"""What changes weights: the learning rate's schedule, and the transformation of gradients into steps."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from latentjax.training.metrics import NEVER
from latentjax.training.muon import is_kernel, scale_by_muon
from latentjax.training.state import Params


def learning_rate_schedule(config: ConfigDict, steps_per_epoch: int) -> optax.Schedule:
  """Constant up to `decay_start` epochs, then down to 0 at `decay_end` by `config.schedule`.

  Times a factor that rises step by step from near 0 to 1 over the first `warmup_epochs`.

  Args:
    config: `config.train`; a `decay_end` of 0 means `epochs`.
  """
  start = step_of(config.decay_start, steps_per_epoch)
  length = max(step_of(config.decay_end or config.epochs, steps_per_epoch) - start, 1)
  decays = {
    "constant": optax.constant_schedule(config.learning_rate),
    "linear": optax.linear_schedule(config.learning_rate, 0.0, length),
    "cosine": optax.cosine_decay_schedule(config.learning_rate, length),
  }
  decayed = optax.join_schedules([optax.constant_schedule(config.learning_rate), decays[config.schedule]], [start])
  warmup_steps = step_of(config.warmup_epochs, steps_per_epoch)
  if warmup_steps == 0:
    return decayed
  return lambda step: decayed(step) * jnp.minimum(1, (step + 1) / warmup_steps)


def step_of(epoch: float, steps_per_epoch: int) -> float:
  """The step that an epoch begins with; of one that is never reached the last that is counted."""
  return min(epoch * steps_per_epoch, NEVER)


def create_optimizer(
  config: ConfigDict, schedule: optax.Schedule, stacked: Mapping[str, int]
) -> optax.GradientTransformation:
  """Adam or Muon after clipping the gradient's global norm, with decay of kernels beside them.

  The decay is decoupled (Loshchilov and Hutter 2019, arXiv:1711.05101): a step takes the learning rate times
  `weight_decay` off every kernel. A `clip_norm` or `weight_decay` of 0 turns either off.

  Args:
    config: `config.train`.
    stacked: as a model has it.
  """
  clip = clip_by_global_norm(config.clip_norm) if config.clip_norm > 0 else optax.identity()
  muon = config.optimizer == "muon"
  direction = scale_by_muon(config.adam_b1, stacked) if muon else optax.scale_by_adam(config.adam_b1)
  decay = [optax.add_decayed_weights(config.weight_decay, kernels)] if config.weight_decay > 0 else []
  return optax.chain(clip, optax.chain(direction, *decay, optax.scale_by_learning_rate(schedule)))


def kernels(params: Params) -> Params:
  """Which of the weights are kernels: not biases, initial states, nor what normalises."""
  return jax.tree_util.tree_map_with_path(lambda path, x: is_kernel(path), params)


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
