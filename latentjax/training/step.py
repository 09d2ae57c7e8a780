"""The compiled functions of a run: train, evaluate, weigh. Everything that is jitted is jitted here.

Shapes: M images in a set, B batch, H W C image, L latent groups, K importance samples. Where `train.num_seeds` = S is
above 1, what trains and validates does so for all seeds at once, and what differs between them has a leading axis S.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax.sharding import Mesh
from ml_collections import ConfigDict

from latentjax.data.batches import binarize, epoch_order, gather, to_pixels
from latentjax.mesh import divide, sharding
from latentjax.models import Terms
from latentjax.training import objectives
from latentjax.training.state import (
  SEED_AXES,
  Params,
  TrainState,
  Variables,
  create_optimizer,
  create_state,
  learning_rate_schedule,
  update_average,
)

NEVER = jnp.iinfo(jnp.int32).max
STATISTICS_DECAY = 0.99  # of batch-norm statistics where weights are not averaged; else they follow the weights

# How the inputs of matrix products are rounded; sums, weights and all else stay float32. A CPU rounds none of them.
PRECISIONS = {"float32": "float32", "tensorfloat32": "tensorfloat32", "bfloat16": "BF16_BF16_F32"}


@struct.dataclass
class Metrics:
  """Sums over training steps of batch means, in nats; `mean` divides. All but `steps` is [S] where there are S seeds.

  Attributes:
    loss: what was minimised: annealed, with free bits, or importance-weighted.
    elbo, kl, reconstruction: of the true bound (beta 1, no free bits); elbo = -(kl + reconstruction).
    steps: how many steps were summed.
    diverged_at: the first step whose loss or gradient was not finite, or NEVER.
  """

  loss: jax.Array
  elbo: jax.Array
  kl: jax.Array
  reconstruction: jax.Array
  steps: jax.Array
  diverged_at: jax.Array

  @classmethod
  def zero(cls, num_seeds: int = 1) -> "Metrics":
    shape = () if num_seeds == 1 else (num_seeds,)
    zero = jnp.zeros(shape)
    return cls(zero, zero, zero, zero, jnp.zeros((), jnp.int32), jnp.full(shape, NEVER))

  def __add__(self, other: "Metrics") -> "Metrics":
    total = jax.tree.map(jnp.add, self, other)
    return total.replace(diverged_at=jnp.minimum(self.diverged_at, other.diverged_at))

  def mean(self) -> dict[str, float | list[float]]:
    """Means over the summed steps, on the host; a list of S where there are S seeds."""
    sums = jax.device_get(self)
    return {name: (getattr(sums, name) / sums.steps).tolist() for name in ("loss", "elbo", "kl", "reconstruction")}

  @property
  def divergence(self) -> tuple[int, int] | None:
    """The first step whose loss or gradient was not finite and the index of its seed, or None while all are."""
    index = int(np.argmin(self.diverged_at))
    step = int(np.ravel(self.diverged_at)[index])
    return None if step == NEVER else (step, index)


METRICS_AXES = Metrics(loss=0, elbo=0, kl=0, reconstruction=0, steps=None, diverged_at=0)


class Steps(NamedTuple):
  """The compiled functions of a run. On a mesh a batch is divided among its devices; what comes back each has whole.

  Of S seeds, `init`, `order`, `train` and `evaluate` take keys [S], an order [S, M] and states or variables of all
  seeds, and return the like; images and counts are shared. The others know one seed only.

  Attributes:
    init: (key, mean [H, W, C] or None) -> TrainState, see `create_state`.
    order: (key, epoch) -> [M], the epoch's order of the training images.
    train: (state, images, order, key, count) -> (state, Metrics): `count` optimiser steps in one call; the state
      is donated. The step number decides batch and randomness, so the same state always goes on the same way.
      images and order are as `gather` takes them.
    evaluate: (variables, images [B, H, W, C], key) -> Terms of one posterior sample, pixels as they are.
    collect: (total, state, images, order, key, first, count) -> total with the batch-norm statistics of the evaluated
      weights added, over `count` training batches of an epoch from number `first` on.
    encode: (variables, images [B, H, W, C]) -> L arrays [B, Z_l], see a model's `encode`.
    weigh: (variables, images [B, H, W, C], keys [K]) -> [K, B] log importance weights, one key at a time.
    sample: (variables, key, count) -> [count, H, W, C] pixel probabilities from the prior.
    decode: (variables, L arrays [B, Z_l]) -> [B, H, W, C] pixel probabilities, see a model's `decode`.
    learning_rate, beta: (step) -> scalar.
    num_devices: a batch is divided among so many.
  """

  init: Callable
  order: Callable
  train: Callable
  evaluate: Callable
  collect: Callable
  encode: Callable
  weigh: Callable
  sample: Callable
  decode: Callable
  learning_rate: Callable
  beta: Callable
  num_devices: int


def create_steps(config: ConfigDict, model, num_images: int, mesh: Mesh | None = None) -> Steps:
  """Builds and jits the functions of a run.

  Args:
    config: the whole config.
    model: as `models.create` returns it.
    num_images: M of the training split.
    mesh: the devices to work on; None is the default one.
  """
  batch_size = config.train.batch_size
  steps_per_epoch = num_images // batch_size
  warmup_steps = round(config.train.kl_warmup_epochs * steps_per_epoch)
  schedule = learning_rate_schedule(config.train, steps_per_epoch)
  optimizer = create_optimizer(config.train, schedule)
  dynamic = config.data.binarization == "dynamic"

  def apply(variables: Variables, images, key) -> Terms:
    return model.apply(variables, images, key)

  def apply_to_batch(params: Params, images, key) -> tuple[Terms, Params]:
    """Terms under the batch's own statistics, and these; a model without batch norm has none."""
    terms, updated = model.apply({"params": params}, images, key, mutable=["batch_stats"])
    return terms, updated.get("batch_stats", {})

  def draw(images, key) -> tuple[jax.Array, jax.Array]:
    """Pixels of a training batch, and a key for the model."""
    images = divide(mesh, images)
    binarize_key, model_key = jax.random.split(key)
    return binarize(binarize_key, images) if dynamic else to_pixels(images), model_key

  def beta(step):
    return objectives.warmed_up(config.train.beta, step, warmup_steps)

  def elbo_loss(params, images, key, step):
    terms, stats = apply_to_batch(params, images, key)
    return objectives.negative_elbo(terms, beta(step), config.train.free_bits), (means(terms), stats)

  def importance_loss(params, images, key, step):
    keys = jax.random.split(key, config.train.importance_samples)
    terms, stats = jax.vmap(apply_to_batch, (None, None, 0))(params, images, keys)
    stats = jax.tree.map(lambda x: x.mean(0), stats)
    return objectives.negative_importance_bound(terms, beta(step)), (means(terms), stats)

  def means(terms: Terms) -> dict[str, jax.Array]:
    return {"elbo": terms.elbo.mean(), "kl": terms.kl.sum(-1).mean(), "reconstruction": -terms.log_px.mean()}

  def value_and_gradient(*args):
    """Of the step's loss: from `importance_start` on it is the importance-weighted bound."""
    one, weighted = (jax.value_and_grad(loss, has_aux=True) for loss in (elbo_loss, importance_loss))
    if config.train.importance_samples == 1:
      return one(*args)
    if config.train.importance_start == 0:
      return weighted(*args)
    return jax.lax.cond(args[-1] >= config.train.importance_start * steps_per_epoch, weighted, one, *args)

  def train_step(state: TrainState, images: jax.Array, key: jax.Array) -> tuple[TrainState, Metrics]:
    pixels, model_key = draw(images, jax.random.fold_in(key, state.step))
    (value, (numbers, stats)), gradient = value_and_gradient(state.params, pixels, model_key, state.step)
    updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    average = state.average
    if average is not None:
      average = update_average(average, params, state.step, config.train.ema_decay)
    stats = update_average(state.stats, stats, state.step, config.train.ema_decay or STATISTICS_DECAY)
    finite = jnp.isfinite(value) & jnp.isfinite(optax.tree.norm(gradient))
    metrics = Metrics(
      loss=value,
      **numbers,
      steps=jnp.ones((), jnp.int32),
      diverged_at=jnp.where(finite, NEVER, state.step),
    )
    return TrainState(state.step + 1, params, average, stats, opt_state), metrics

  def train(state, images, order, key, count):
    def body(_, carry):
      state, total = carry
      batch = gather(images, order, state.step % steps_per_epoch, batch_size)
      state, metrics = train_step(state, batch, key)
      return state, total + metrics

    return jax.lax.fori_loop(0, count, body, (state, Metrics.zero()))

  def collect(total, state, images, order, key, first, count):
    def add_batch(index, total):
      pixels, model_key = draw(gather(images, order, index, batch_size), jax.random.fold_in(key, index))
      return jax.tree.map(jnp.add, total, apply_to_batch(state.variables["params"], pixels, model_key)[1])

    return jax.lax.fori_loop(first, first + count, add_batch, total)

  def evaluate(variables, images, key):
    return apply(variables, to_pixels(divide(mesh, images)), key)

  def encode(variables, images):
    return model.apply(variables, to_pixels(divide(mesh, images)), method="encode")

  def weigh(variables, images, keys):
    pixels = to_pixels(divide(mesh, images))
    return jax.lax.map(lambda key: apply(variables, pixels, key).log_weight, keys)

  def sample(variables, key, count):
    return model.apply(variables, key, count, method="sample")

  def decode(variables, latents):
    return model.apply(variables, latents, method="decode")

  def over_seeds(function, in_axes, out_axes=0):
    """The function for all seeds at once; a seed alone has no axis for it."""
    return function if config.train.num_seeds == 1 else jax.vmap(function, in_axes, out_axes)

  def compiled(function, **options):
    def at_precision(*args):
      with jax.default_matmul_precision(PRECISIONS[config.precision]):
        return function(*args)

    return jit(at_precision, **options)

  def init(key, mean=None):
    return create(key, mean)

  jit = jax.jit if mesh is None else partial(jax.jit, out_shardings=sharding(mesh))

  create = jit(over_seeds(partial(create_state, model, optimizer, config.train.ema_decay), (0, None), SEED_AXES))
  return Steps(
    init=init,
    order=jit(over_seeds(partial(epoch_order, num_images=num_images), (0, None))),
    train=compiled(over_seeds(train, (SEED_AXES, None, 0, 0, None), (SEED_AXES, METRICS_AXES)), donate_argnums=0),
    evaluate=compiled(over_seeds(evaluate, (0, None, 0))),
    collect=compiled(collect),
    encode=compiled(encode),
    weigh=compiled(weigh),
    sample=compiled(sample, static_argnums=2),
    decode=compiled(decode),
    learning_rate=schedule,
    beta=beta,
    num_devices=1 if mesh is None else mesh.size,
  )
