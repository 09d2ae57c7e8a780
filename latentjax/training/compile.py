"""Compiled training functions of a run.

Shapes: M images in a set, B batch, H W C image, S seeds, a leading axis if there are several.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from jax.sharding import Mesh
from ml_collections import ConfigDict

from latentjax.data.preprocessing import epoch_order
from latentjax.models.base import Model
from latentjax.runtime.distributed import jit_on, over_seeds
from latentjax.runtime.precision import at_precision
from latentjax.training import step
from latentjax.training.metrics import METRICS_AXES
from latentjax.training.state import SEED_AXES, create_state


class TrainFns(NamedTuple):
  """The functions of `step.py` for one recipe, jitted. On a mesh, batches are sharded and all else is replicated.

  With several seeds, `init`, `order` and `train` take and return arrays with a leading axis S; images and counts are
  shared. `add_batch_statistics` takes a single seed. Each value of `count` compiles a separate program.

  Attributes:
    init: (key, pixel_stats=None) -> TrainState, see `create_state`.
    order: (key, epoch) -> [M], the epoch's order of the training images.
    train: (state, images, order, key, count) -> (state, Metrics), see `train_steps`; donates `state`.
    add_batch_statistics: (total, state, images, order, key, first, count) -> total.
    learning_rate, beta: (step) -> scalar.
  """

  init: Callable
  order: Callable
  train: Callable
  add_batch_statistics: Callable
  learning_rate: Callable
  beta: Callable


def create_train_fns(config: ConfigDict, model: Model, num_images: int, mesh: Mesh | None = None) -> TrainFns:
  """Jits the training functions of a model; `num_images` is M of the training split."""
  recipe = step.create_recipe(config, model, num_images, mesh)
  jit, precise = jit_on(mesh), partial(at_precision, config.precision)
  create = partial(create_state, model, recipe.optimizer, config.train.ema_decay)
  init = jit(over_seeds(config, create, (0, None), SEED_AXES))
  order = over_seeds(config, partial(epoch_order, num_images=num_images), (0, None))

  def train(state, images, order, key, count):
    axes = (SEED_AXES, None, 0, 0), (SEED_AXES, METRICS_AXES)
    return over_seeds(config, partial(step.train_steps, recipe, count=count), *axes)(state, images, order, key)

  return TrainFns(
    init=lambda key, pixel_stats=None: init(key, pixel_stats),
    order=jit(order),
    train=jit(precise(train), donate_argnums=0, static_argnums=4),
    add_batch_statistics=jit(precise(partial(step.add_batch_statistics, recipe)), static_argnums=6),
    learning_rate=recipe.learning_rate,
    beta=recipe.beta,
  )
