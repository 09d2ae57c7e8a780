"""Training state, the content of a checkpoint."""

import jax
import jax.numpy as jnp
import optax
from flax import struct

from latentjax.models.base import Model, Params, Variables


@struct.dataclass
class TrainState:
  """State between training steps. With several seeds, all fields but `step` have a leading axis S.

  Attributes:
    step: Number of optimizer steps done, an int32 scalar.
    params: Weights of the model.
    average: Exponential moving average of `params`, or None if disabled.
    stats: Running average of batch-norm statistics; empty for models without batch norm.
    opt_state: State of the optimizer.
  """

  step: jax.Array
  params: Params
  average: Params | None
  stats: Params
  opt_state: optax.OptState

  @property
  def variables(self) -> Variables:
    """Variables to evaluate with: averaged weights if there are any, and running statistics."""
    params = self.params if self.average is None else self.average
    return {"params": params, "batch_stats": self.stats}

  def of_seed(self, index: int) -> "TrainState":
    """Returns the state of one of several seeds."""
    return jax.tree.map(lambda x: x[index], self.replace(step=None)).replace(step=self.step)


SEED_AXES = TrainState(step=None, params=0, average=0, stats=0, opt_state=0)  # for vmap over seeds


def create_state(
  model: Model,
  optimizer: optax.GradientTransformation,
  ema_decay: float,
  key: jax.Array,
  pixel_stats: tuple[jax.Array, jax.Array] | None = None,
) -> TrainState:
  """Creates the state before the first step.

  Args:
    ema_decay: Decay of the weight average; 0 disables it.
    pixel_stats: Mean [H, W, C] of the training images in [0, 1] and standard deviation [C] around it, passed to
      `Model.init_to_data_mean`; None skips that.
  """
  init_key, sample_key = jax.random.split(key)
  variables = model.init(init_key, jnp.zeros((1, *model.image_shape)), sample_key)
  params = variables["params"]
  if pixel_stats is not None:
    params = model.init_to_data_mean(params, *pixel_stats)
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    average=jax.tree.map(jnp.copy, params) if ema_decay > 0 else None,  # a copy, because both are donated
    stats=variables.get("batch_stats", {}),
    opt_state=optimizer.init(params),
  )


def update_average(average: Params, params: Params, step: jax.Array, decay: float) -> Params:
  """Updates a moving average with decay min(decay, (1 + step)/(10 + step)), which forgets early weights quickly."""
  current = jnp.minimum(decay, (1 + step) / (10 + step))
  return optax.incremental_update(params, average, 1 - current)
