"""What training carries from step to step."""

import jax
import jax.numpy as jnp
import optax
from flax import struct

from latentjax.models.base import Params, Variables


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
    params = model.init_to_data_mean(params, *pixels)
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
