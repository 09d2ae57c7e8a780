"""The compiled functions of a run: what trains, validates and asks a model is jitted here.

Shapes: M images in a set, B batch, H W C image, L latent groups, K importance samples. Where `train.num_seeds` = S is
above 1, what trains and validates does so for all seeds at once, and what differs between them has a leading axis S.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from latentjax.data.batches import epoch_order
from latentjax.mesh import sharding
from latentjax.models import Model
from latentjax.training import inference, step
from latentjax.training.metrics import METRICS_AXES
from latentjax.training.precision import at_precision
from latentjax.training.state import SEED_AXES, create_state


class Inference(NamedTuple):
  """`inference.py` of one model, compiled. What comes back from a mesh each of its devices has whole.

  Of S seeds, `evaluate` takes variables of all seeds and keys [S], and returns the like; images are shared. The others
  know one seed only.

  Attributes:
    evaluate: (variables, images [B, H, W, C], key) -> Terms.
    log_weights: (variables, images [B, H, W, C], keys [K]) -> [K, B].
    encode: (variables, images [B, H, W, C]) -> L arrays [B, Z_l].
    unit_kl: (variables, images [B, H, W, C], key) -> L arrays [B, Z_l].
    decode: (variables, L arrays [B, Z_l]) -> [B, H, W, C].
    sample: (variables, key, count) -> [count, H, W, C].
    pictures: (variables, key, images [M, H, W, C] or None) -> Pictures by file name.
    num_devices: a batch is divided among so many.
  """

  evaluate: Callable
  log_weights: Callable
  encode: Callable
  unit_kl: Callable
  decode: Callable
  sample: Callable
  pictures: Callable
  num_devices: int


class Steps(NamedTuple):
  """`step.py` of one recipe, compiled. On a mesh a batch is divided among its devices; all else each has whole.

  Of S seeds, `init`, `order` and `train` take keys [S], an order [S, M] and states of all seeds, and return the like;
  images and counts are shared. `add_batch_statistics` knows one seed only. Each count has a program of its own.

  Attributes:
    init: (key, pixels=None) -> TrainState, see `create_state`.
    order: (key, epoch) -> [M], the epoch's order of the training images.
    train: (state, images, order, key, count) -> (state, Metrics) as `train_steps`; the state is donated.
    add_batch_statistics: (total, state, images, order, key, first, count) -> total.
    learning_rate, beta: (step) -> scalar.
  """

  init: Callable
  order: Callable
  train: Callable
  add_batch_statistics: Callable
  learning_rate: Callable
  beta: Callable


def create_inference(config: ConfigDict, model: Model, mesh: Mesh | None = None) -> Inference:
  """Jits what a trained model is asked.

  Args:
    config: the whole config.
    mesh: the devices to work on; None is the default one.
  """
  jit, precise = jit_on(mesh), partial(at_precision, config.precision)
  evaluate = over_seeds(config, partial(inference.evaluate, model, mesh), (0, None, 0))
  return Inference(
    evaluate=jit(precise(evaluate)),
    log_weights=jit(precise(partial(inference.log_weights, model, mesh))),
    encode=jit(precise(partial(inference.encode, model, mesh))),
    unit_kl=jit(precise(partial(inference.unit_kl, model, mesh))),
    decode=jit(precise(partial(inference.decode, model))),
    sample=jit(precise(partial(inference.sample, model)), static_argnums=2),
    pictures=jit(precise(partial(inference.pictures, model))),
    num_devices=1 if mesh is None else mesh.size,
  )


def create_steps(config: ConfigDict, model: Model, num_images: int, mesh: Mesh | None = None) -> Steps:
  """Jits what trains a model.

  Args:
    config, mesh: as of `create_inference`.
    num_images: M of the training split.
  """
  recipe = step.create_recipe(config, model, num_images, mesh)
  jit, precise = jit_on(mesh), partial(at_precision, config.precision)
  create = partial(create_state, model, recipe.optimizer, config.train.ema_decay)
  init = jit(over_seeds(config, create, (0, None), SEED_AXES))
  order = over_seeds(config, partial(epoch_order, num_images=num_images), (0, None))

  def train(state, images, order, key, count):
    axes = (SEED_AXES, None, 0, 0), (SEED_AXES, METRICS_AXES)
    return over_seeds(config, partial(step.train_steps, recipe, count=count), *axes)(state, images, order, key)

  return Steps(
    init=lambda key, pixels=None: init(key, pixels),
    order=jit(order),
    train=jit(precise(train), donate_argnums=0, static_argnums=4),
    add_batch_statistics=jit(precise(partial(step.add_batch_statistics, recipe)), static_argnums=6),
    learning_rate=recipe.learning_rate,
    beta=recipe.beta,
  )


def compile_method(config: ConfigDict, model: Model, name: str, static: int | None = None) -> Callable:
  """(variables, ...) -> what a method gives that only this kind of model has; on one device.

  Args:
    static: the argument, counted from 0 for the variables, whose every value has a program of its own.
  """
  return jax.jit(at_precision(config.precision, partial(model.apply, method=name)), static_argnums=static)


def jit_on(mesh: Mesh | None) -> Callable:
  """`jax.jit`; on a mesh every device has the whole of what comes back."""
  return jax.jit if mesh is None else partial(jax.jit, out_shardings=sharding(mesh))


def over_seeds(config: ConfigDict, function: Callable, in_axes, out_axes=0) -> Callable:
  """The function for all seeds at once; a seed alone has no axis for it."""
  return function if config.train.num_seeds == 1 else jax.vmap(function, in_axes, out_axes)
