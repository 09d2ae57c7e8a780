"""Training steps as pure functions of a recipe and arrays, jitted in `compile.py`.

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

STATISTICS_DECAY = 0.99  # of batch-norm statistics if weights are not averaged; otherwise that of the weights


@dataclasses.dataclass(frozen=True)
class Recipe:
  """Everything that a training step needs besides arrays; see `create_recipe`.

  Attributes:
    steps_per_epoch: Number of full batches in the training set.
    learning_rate, beta: (step) -> scalar; beta is the weight of the KL in the loss.
    mesh: Devices over which a batch is sharded; None uses the default device.
  """

  config: ConfigDict
  model: Model
  steps_per_epoch: int
  optimizer: optax.GradientTransformation
  learning_rate: optax.Schedule
  beta: Callable[[jax.Array], jax.Array]
  mesh: Mesh | None = None


def create_recipe(config: ConfigDict, model: Model, num_images: int, mesh: Mesh | None = None) -> Recipe:
  """Creates the recipe of a config for a training set of M = `num_images`."""
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
  """Runs one optimizer step on images [B, H, W, C] uint8; the step number is folded into the key of the run."""
  train = recipe.config.train
  pixels, model_key = _draw_pixels(recipe, images, jax.random.fold_in(key, state.step))
  (value, (terms, stats)), gradient = _value_and_grad(state.params, recipe, pixels, model_key, state.step)
  updates, opt_state = recipe.optimizer.update(gradient, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  average = state.average
  if average is not None:
    average = update_average(average, params, state.step, train.ema_decay)
  stats = update_average(state.stats, stats, state.step, train.ema_decay or STATISTICS_DECAY)
  finite = jnp.isfinite(value) & jnp.isfinite(global_norm(gradient))
  metrics = Metrics(
    loss=value,
    **terms,
    steps=jnp.ones((), jnp.int32),
    diverged_at=jnp.where(finite, NO_DIVERGENCE, state.step),
  )
  return TrainState(state.step + 1, params, average, stats, opt_state), metrics


def train_steps(
  recipe: Recipe, state: TrainState, images: jax.Array, order: jax.Array, key: jax.Array, count: int
) -> tuple[TrainState, Metrics]:
  """Runs `count` optimizer steps on batches of `gather(images, order, ...)`; returns the sums of their metrics.

  Batch and randomness depend on the step number only, so a restored state continues bit for bit. `count` is static:
  in a loop of unknown length a GPU would wait for the host before each step.
  """

  def body(_, carry):
    state, sums, diverged_at = carry
    batch = gather(images, order, state.step % recipe.steps_per_epoch, recipe.config.train.batch_size)
    state, metrics = train_step(recipe, state, batch, key)
    sums += jnp.stack([getattr(metrics, name) for name in SUMMED_METRICS])  # one array: fewer launches
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
  """Adds to `total` the batch-norm statistics of the evaluated weights on `count` batches, from batch `first` on."""

  def body(offset, total):
    index = first + offset
    batch = gather(images, order, index, recipe.config.train.batch_size)
    pixels, model_key = _draw_pixels(recipe, batch, jax.random.fold_in(key, index))
    _, stats = _apply_model(recipe.model, state.variables["params"], pixels, model_key)
    return jax.tree.map(jnp.add, total, stats)

  return jax.lax.fori_loop(0, count, body, total)


def _value_and_grad(params: Params, recipe: Recipe, pixels: jax.Array, key: jax.Array, step: jax.Array):
  """Returns ((loss, (mean terms of the true bound, batch-norm statistics)), gradient) for pixels [B, H, W, C].

  With several samples, the loss is the importance-weighted bound from `iwae_start_epoch` on.
  """
  train = recipe.config.train
  elbo_grad, importance_grad = (
    jax.value_and_grad(partial(loss, recipe), has_aux=True) for loss in (_elbo_loss, _importance_loss)
  )
  if train.iwae_samples == 1:
    return elbo_grad(params, pixels, key, step)
  if train.iwae_start_epoch == 0:
    return importance_grad(params, pixels, key, step)
  use_importance = step >= epoch_to_step(train.iwae_start_epoch, recipe.steps_per_epoch)
  return jax.lax.cond(use_importance, importance_grad, elbo_grad, params, pixels, key, step)


def _elbo_loss(recipe: Recipe, params: Params, pixels: jax.Array, key: jax.Array, step: jax.Array):
  """Negative ELBO with KL weight and free bits; returns (loss, (mean terms, batch-norm statistics))."""
  terms, stats = _apply_model(recipe.model, params, pixels, key)
  return negative_elbo(terms, recipe.beta(step), recipe.config.train.free_bits), (_mean_terms(terms), stats)


def _importance_loss(recipe: Recipe, params: Params, pixels: jax.Array, key: jax.Array, step: jax.Array):
  """Negative importance-weighted bound, with batch-norm statistics averaged over samples; returns as `_elbo_loss`."""
  keys = jax.random.split(key, recipe.config.train.iwae_samples)
  terms, stats = jax.vmap(partial(_apply_model, recipe.model, params, pixels))(keys)
  stats = jax.tree.map(lambda x: x.mean(0), stats)
  return negative_importance_bound(terms, recipe.beta(step)), (_mean_terms(terms), stats)


def _mean_terms(terms: ELBOTerms) -> dict[str, jax.Array]:
  return {"elbo": terms.elbo.mean(), "kl": terms.kl.sum(-1).mean(), "reconstruction": -terms.log_px.mean()}


def _apply_model(model: Model, params: Params, pixels: jax.Array, key: jax.Array) -> tuple[ELBOTerms, Params]:
  """Returns terms under the statistics of the batch, and these statistics ({} without batch norm)."""
  terms, updated = model.apply({"params": params}, pixels, key, mutable=["batch_stats"])
  return terms, updated.get("batch_stats", {})


def _draw_pixels(recipe: Recipe, images: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns pixels [B, H, W, C] in [0, 1] of a training batch, and a key for the model.

  Scenes and dynamic binarization are redrawn in every step.
  """
  if two_digits.base_dataset(recipe.config.data.name) is not None:
    key, scene_key = jax.random.split(key)
    images = two_digits.compose_scenes(scene_key, images)
  images = shard_batch(recipe.mesh, images)
  binarize_key, model_key = jax.random.split(key)
  dynamic = recipe.config.data.binarization == "dynamic"
  return binarize(binarize_key, images) if dynamic else to_pixels(images), model_key
