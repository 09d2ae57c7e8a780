"""The training step: pure functions of a recipe and arrays, which `compiled.py` compiles.

Shapes: M images in a set, B batch, H W C image, K importance samples.
"""

import dataclasses
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from latentjax.data import two_digits
from latentjax.data.preprocessing import binarize, gather, to_pixels
from latentjax.models.base import Model, Params
from latentjax.models.elbo import ELBOTerms, kl_weight_schedule, negative_elbo, negative_importance_bound
from latentjax.runtime.distributed import shard_batch
from latentjax.training.metrics import NO_DIVERGENCE, SUMMED_METRICS, Metrics
from latentjax.training.optimizer import create_optimizer, epoch_to_step, global_norm, learning_rate_schedule
from latentjax.training.state import TrainState, update_average

STATISTICS_DECAY = 0.99  # of batch-norm statistics where weights are not averaged; else they follow the weights


@dataclasses.dataclass(frozen=True)
class Recipe:
  """How a model is trained: all that a step needs besides arrays.

  Attributes:
    config: the whole config.
    steps_per_epoch: full batches in the training set.
    optimizer: Optax's transformation.
    learning_rate, beta: (step) -> scalar; beta weighs the KL in the loss.
    mesh: the devices among which a batch is divided; None is the default one.
  """

  config: ConfigDict
  model: Model
  steps_per_epoch: int
  optimizer: optax.GradientTransformation
  learning_rate: optax.Schedule
  beta: Callable[[jax.Array], jax.Array]
  mesh: Mesh | None = None


def create_recipe(config: ConfigDict, model: Model, num_images: int, mesh: Mesh | None = None) -> Recipe:
  """The recipe that a config describes, for a training set of M = `num_images`."""
  steps_per_epoch = num_images // config.train.batch_size
  warmup_steps = round(epoch_to_step(config.train.kl_warmup_epochs, steps_per_epoch))
  learning_rate = learning_rate_schedule(config.train, steps_per_epoch)
  return Recipe(
    config=config,
    model=model,
    steps_per_epoch=steps_per_epoch,
    optimizer=create_optimizer(config.train, learning_rate, model.STACKED_KERNELS),
    learning_rate=learning_rate,
    beta=lambda step: kl_weight_schedule(config.train.beta, step, warmup_steps),
    mesh=mesh,
  )


def train_step(recipe: Recipe, state: TrainState, images: jax.Array, key: jax.Array) -> tuple[TrainState, Metrics]:
  """One optimiser step.

  Args:
    images: [B, H, W, C] uint8.
    key: of the run; the step's number makes it the step's own.
  """
  train = recipe.config.train
  pixels, model_key = draw_pixels(recipe, images, jax.random.fold_in(key, state.step))
  (value, (numbers, stats)), gradient = value_and_gradient(state.params, recipe, pixels, model_key, state.step)
  updates, opt_state = recipe.optimizer.update(gradient, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  average = state.average
  if average is not None:
    average = update_average(average, params, state.step, train.ema_decay)
  stats = update_average(state.stats, stats, state.step, train.ema_decay or STATISTICS_DECAY)
  finite = jnp.isfinite(value) & jnp.isfinite(global_norm(gradient))
  metrics = Metrics(
    loss=value,
    **numbers,
    steps=jnp.ones((), jnp.int32),
    diverged_at=jnp.where(finite, NO_DIVERGENCE, state.step),
  )
  return TrainState(state.step + 1, params, average, stats, opt_state), metrics


def train_steps(
  recipe: Recipe, state: TrainState, images: jax.Array, order: jax.Array, key: jax.Array, count: int
) -> tuple[TrainState, Metrics]:
  """`count` optimiser steps, and the sums of their metrics.

  The step's number decides batch and randomness, so the same state always continues in the same way. How many steps
  there are is known to the compiler: before each step of a loop of unknown length a GPU would ask the host.

  Args:
    images, order: as `gather` takes them.
  """

  def body(_, carry):
    state, sums, diverged_at = carry
    batch = gather(images, order, state.step % recipe.steps_per_epoch, recipe.config.train.batch_size)
    state, metrics = train_step(recipe, state, batch, key)
    sums += jnp.stack([getattr(metrics, name) for name in SUMMED_METRICS])  # one array, or each sum would be a launch
    return state, sums, jnp.minimum(diverged_at, metrics.diverged_at)

  state, sums, diverged_at = jax.lax.fori_loop(0, count, body, (state, jnp.zeros(len(SUMMED_METRICS)), NO_DIVERGENCE))
  return state, Metrics(**dict(zip(SUMMED_METRICS, sums, strict=True)), steps=jnp.int32(count), diverged_at=diverged_at)


def add_batch_statistics(
  recipe: Recipe,
  total: Params,
  state: TrainState,
  images: jax.Array,
  order: jax.Array,
  key: jax.Array,
  first: jax.Array,
  count: int,
) -> Params:
  """`total` with the batch-norm statistics of the evaluated weights on `count` training batches added.

  Args:
    images, order: as `gather` takes them.
    first: number of the first batch in its epoch.
  """

  def body(done, total):
    index = first + done
    batch = gather(images, order, index, recipe.config.train.batch_size)
    pixels, model_key = draw_pixels(recipe, batch, jax.random.fold_in(key, index))
    _, stats = apply_model(recipe.model, state.variables["params"], pixels, model_key)
    return jax.tree.map(jnp.add, total, stats)

  return jax.lax.fori_loop(0, count, body, total)


def value_and_gradient(params: Params, recipe: Recipe, pixels: jax.Array, key: jax.Array, step: jax.Array):
  """((loss, (means of the true bound, batch-norm statistics)), gradient) of a batch of pixels [B, H, W, C].

  From `iwae_start_epoch` on the loss is the importance-weighted bound, if there is more than one sample to weigh.
  """
  train = recipe.config.train
  of_elbo, of_importance_bound = (
    jax.value_and_grad(partial(loss, recipe), has_aux=True) for loss in (elbo_loss, importance_loss)
  )
  if train.iwae_samples == 1:
    return of_elbo(params, pixels, key, step)
  if train.iwae_start_epoch == 0:
    return of_importance_bound(params, pixels, key, step)
  partial_epoch = step >= epoch_to_step(train.iwae_start_epoch, recipe.steps_per_epoch)
  return jax.lax.cond(partial_epoch, of_importance_bound, of_elbo, params, pixels, key, step)


def elbo_loss(recipe: Recipe, params: Params, pixels: jax.Array, key: jax.Array, step: jax.Array):
  """The negative ELBO, with its weight of the KL and free bits; see `value_and_gradient`."""
  terms, stats = apply_model(recipe.model, params, pixels, key)
  return negative_elbo(terms, recipe.beta(step), recipe.config.train.free_bits), (means(terms), stats)


def importance_loss(recipe: Recipe, params: Params, pixels: jax.Array, key: jax.Array, step: jax.Array):
  """The negative importance-weighted bound; the batch-norm statistics are those of all samples."""
  keys = jax.random.split(key, recipe.config.train.iwae_samples)
  terms, stats = jax.vmap(partial(apply_model, recipe.model, params, pixels))(keys)
  stats = jax.tree.map(lambda x: x.mean(0), stats)
  return negative_importance_bound(terms, recipe.beta(step)), (means(terms), stats)


def means(terms: ELBOTerms) -> dict[str, jax.Array]:
  return {"elbo": terms.elbo.mean(), "kl": terms.kl.sum(-1).mean(), "reconstruction": -terms.log_px.mean()}


def apply_model(model: Model, params: Params, pixels: jax.Array, key: jax.Array) -> tuple[ELBOTerms, Params]:
  """Terms under the batch's own statistics, and these; a model without batch norm has none."""
  terms, updated = model.apply({"params": params}, pixels, key, mutable=["batch_stats"])
  return terms, updated.get("batch_stats", {})


def draw_pixels(recipe: Recipe, images: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Pixels [B, H, W, C] in [0, 1] of a training batch, and a key for the model.

  Both scenes and binarisation, if that is dynamic, are made anew.
  """
  if two_digits.base_dataset(recipe.config.data.name) is not None:
    key, scene_key = jax.random.split(key)
    images = two_digits.compose_scenes(scene_key, images)
  images = shard_batch(recipe.mesh, images)
  binarize_key, model_key = jax.random.split(key)
  dynamic = recipe.config.data.binarization == "dynamic"
  return binarize(binarize_key, images) if dynamic else to_pixels(images), model_key
