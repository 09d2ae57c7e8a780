"""Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon): matrices step along their momentum made
orthogonal, which moves the directions of a small gradient as far as those of a large one. All other weights take Adam's
steps.

Optax has it for kernels that are one matrix. An LSTM's is four side by side, whose steps are cheaper one by one: the
cost grows with the square of the smaller side.

Shapes: I inputs, O outputs of a layer, n matrices side by side in its kernel.
"""

from collections.abc import Mapping
from functools import reduce

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from latentjax.models.base import Params
from latentjax.runtime.precision import exact_product
from latentjax.training.metrics import NO_DIVERGENCE

STEP_SIZE = 0.4  # root mean square of a matrix's step in units of the learning rate, so that one rate serves both kinds

MIN_MATRIX_SIDE = (
  16  # kernels with a side below this are left to Adam: what the five outputs of a window mean has no directions
)

MOMENTUM = 0.95

NEWTON_SCHULZ_STEPS = 5

NEWTON_SCHULZ_COEFFICIENTS = 3.4445, -4.775, 2.0315  # of Jordan et al.: singular values end between 0.7 and 1.2


def scale_by_muon(adam_b1: float, stacked: Mapping[str, int]) -> optax.GradientTransformation:
  """Muon for kernels, Adam for all else, both at a learning rate of 1 and still uphill, as Optax's `scale_by_adam`.

  Args:
    adam_b1: of Adam's part.
    stacked: layers whose kernel [I, n O] is n matrices, and n.
  """

  def kind(path, x: jax.Array) -> str:
    return "matrix" if is_kernel(path) and min(x.shape) >= MIN_MATRIX_SIDE else "other"

  def orthogonal_step(path, momentum: jax.Array) -> jax.Array:
    return muon_update(momentum, stacked.get(path[-2].key, 1))

  of_matrices = optax.chain(
    optax.trace(MOMENTUM, nesterov=True),
    optax.stateless(lambda momentum, params: jax.tree_util.tree_map_with_path(orthogonal_step, momentum)),
  )
  kinds = {"matrix": of_matrices, "other": optax.scale_by_adam(adam_b1)}
  return optax.partition(kinds, lambda params: jax.tree_util.tree_map_with_path(kind, params))


def is_kernel(path: tuple) -> bool:
  """Whether what is at this path of a model's weights is the kernel of a layer."""
  return path[-1] == jax.tree_util.DictKey("kernel")


def muon_update(momentum: jax.Array, count: int) -> jax.Array:
  """[I, n O] the step of a kernel that is `count` matrices, each orthogonal by itself."""
  apart = momentum.reshape(len(momentum), count, -1)  # [I, n, O]
  scale = STEP_SIZE * max(len(momentum), apart.shape[-1]) ** 0.5
  return scale * jax.vmap(orthogonalize_via_newton_schulz, in_axes=1, out_axes=1)(apart).reshape(momentum.shape)


def orthogonalize_via_newton_schulz(x: jax.Array) -> jax.Array:
  """[I, O] U f(S) V^T of a matrix U S V^T, where f, by Newton-Schulz iteration, is near 1 for all but tiny S.

      X <- X P,  P = a + b X^T X + c (X^T X)^2

  Carried out on X^T X alone, or on X X^T if that is smaller, in full float32: rounded more, what should be 0 grows.
  """
  if x.shape[0] < x.shape[1]:
    return orthogonalize_via_newton_schulz(x.T).T
  x = x / (jnp.linalg.norm(x) + 1e-8)
  a, b, c = NEWTON_SCHULZ_COEFFICIENTS
  square, factors = exact_product(x.T, x), []
  for _ in range(NEWTON_SCHULZ_STEPS):
    factors.append(a * jnp.eye(x.shape[1]) + b * square + c * exact_product(square, square))
    square = exact_product(exact_product(factors[-1], square), factors[-1])
  return exact_product(x, reduce(exact_product, factors))


def learning_rate_schedule(config: ConfigDict, steps_per_epoch: int) -> optax.Schedule:
  """Constant up to `decay_start` epochs, then down to 0 at `decay_end` by `config.schedule`.

  Times a factor that rises step by step from near 0 to 1 over the first `warmup_epochs`.

  Args:
    config: `config.train`; a `decay_end` of 0 means `epochs`.
  """
  start = epoch_to_step(config.decay_start, steps_per_epoch)
  length = max(epoch_to_step(config.decay_end or config.epochs, steps_per_epoch) - start, 1)
  decays = {
    "constant": optax.constant_schedule(config.learning_rate),
    "linear": optax.linear_schedule(config.learning_rate, 0.0, length),
    "cosine": optax.cosine_decay_schedule(config.learning_rate, length),
  }
  decayed = optax.join_schedules([optax.constant_schedule(config.learning_rate), decays[config.schedule]], [start])
  warmup_steps = epoch_to_step(config.warmup_epochs, steps_per_epoch)
  if warmup_steps == 0:
    return decayed
  return lambda step: decayed(step) * jnp.minimum(1, (step + 1) / warmup_steps)


def epoch_to_step(epoch: float, steps_per_epoch: int) -> float:
  """The step that an epoch begins with; of one that is never reached the last that is counted."""
  return min(epoch * steps_per_epoch, NO_DIVERGENCE)


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
  decay = [optax.add_decayed_weights(config.weight_decay, kernel_mask)] if config.weight_decay > 0 else []
  return optax.chain(clip, optax.chain(direction, *decay, optax.scale_by_learning_rate(schedule)))


def kernel_mask(params: Params) -> Params:
  """Which of the weights are kernels: not biases, initial states, nor what normalises."""
  return jax.tree_util.tree_map_with_path(lambda path, x: is_kernel(path), params)


def clip_by_global_norm(limit: float) -> optax.GradientTransformation:
  """`optax.clip_by_global_norm` by one factor, where that divides and selects every number: 4 % of a VAE's step."""

  def clip(gradient, state, params=None):
    del params
    factor = jnp.minimum(1, limit / global_norm(gradient))
    return jax.tree.map(lambda x: factor * x, gradient), state

  return optax.GradientTransformation(lambda params: optax.EmptyState(), clip)


def global_norm(gradient: Params) -> jax.Array:
  """Euclidean norm of all numbers together.

  On a CPU of each array by itself; elsewhere all are joined first, where each would be two launches.
  """
  return jax.lax.platform_dependent(gradient, cpu=optax.tree.norm, default=global_norm_joined)


def global_norm_joined(gradient: Params) -> jax.Array:
  return jnp.sqrt(jnp.square(jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(gradient)])).sum())
