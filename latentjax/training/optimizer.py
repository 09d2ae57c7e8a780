"""Learning-rate schedule and optimizer: Adam or Muon.

Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon) orthogonalizes the momentum of matrices, so that
directions of small gradients move as far as those of large ones; all other weights use Adam. Unlike Optax's, this one
treats the four gates of an LSTM, concatenated in one kernel, as four matrices, which is also cheaper: the cost grows
with the square of the smaller side.

Shapes: I inputs, O outputs of a layer, n matrices concatenated in its kernel.
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

STEP_SIZE = 0.4  # root mean square of a Muon step in units of the learning rate, so that one rate suits Adam and Muon
MIN_MATRIX_SIDE = 16  # smaller kernels use Adam, such as the heads that predict the five parameters of a window
MOMENTUM = 0.95
NEWTON_SCHULZ_STEPS = 5
NEWTON_SCHULZ_COEFFICIENTS = 3.4445, -4.775, 2.0315  # of Jordan et al.: singular values end between 0.7 and 1.2


def learning_rate_schedule(config: ConfigDict, steps_per_epoch: int) -> optax.Schedule:
  """Returns the schedule of `config.train`: constant until epoch `decay_start`, then falling to 0 at epoch `decay_end`.

  During the first `warmup_epochs` it is multiplied by a factor that rises from near 0 to 1. A `decay_end` of 0 means
  the last epoch.
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
  """Returns the first step of an epoch, at most the largest step that int32 can count."""
  return min(epoch * steps_per_epoch, NO_DIVERGENCE)


def create_optimizer(
  config: ConfigDict, schedule: optax.Schedule, stacked: Mapping[str, int]
) -> optax.GradientTransformation:
  """Creates the optimizer of `config.train`: Adam or Muon, with clipping of the global gradient norm and weight decay.

  Weight decay is decoupled (Loshchilov and Hutter 2019, arXiv:1711.05101) and applies to kernels only. A `clip_norm` or
  `weight_decay` of 0 disables either. See `scale_by_muon` for `stacked`.
  """
  clip = _clip_by_global_norm(config.clip_norm) if config.clip_norm > 0 else optax.identity()
  muon = config.optimizer == "muon"
  direction = scale_by_muon(config.adam_b1, stacked) if muon else optax.scale_by_adam(config.adam_b1)
  decay = [optax.add_decayed_weights(config.weight_decay, _kernel_mask)] if config.weight_decay > 0 else []
  return optax.chain(clip, optax.chain(direction, *decay, optax.scale_by_learning_rate(schedule)))


def scale_by_muon(adam_b1: float, stacked: Mapping[str, int]) -> optax.GradientTransformation:
  """Rescales gradients of kernels by Muon and all others by Adam; like `optax.scale_by_adam`, without a learning rate.

  `stacked` is `Model.STACKED_KERNELS`: n by name, for layers whose kernel [I, n O] concatenates n matrices.
  """

  def label(path, x: jax.Array) -> str:
    smaller_side = min(x.size // x.shape[-1], x.shape[-1]) if _is_kernel(path) else 0
    return "matrix" if smaller_side >= MIN_MATRIX_SIDE else "other"

  def update(path, momentum: jax.Array) -> jax.Array:
    return _muon_update(momentum, stacked.get(path[-2].key, 1))

  muon = optax.chain(
    optax.trace(MOMENTUM, nesterov=True),
    optax.stateless(lambda momentum, params: jax.tree_util.tree_map_with_path(update, momentum)),
  )
  transforms = {"matrix": muon, "other": optax.scale_by_adam(adam_b1)}
  return optax.partition(transforms, lambda params: jax.tree_util.tree_map_with_path(label, params))


def _muon_update(momentum: jax.Array, num_matrices: int) -> jax.Array:
  """Returns the update of a kernel, [I, n O], whose n matrices are orthogonalized separately.

  A convolution's kernel [k, k, I, O] is one matrix [k k I, O].
  """
  inputs = momentum.size // momentum.shape[-1]
  matrices = momentum.reshape(inputs, num_matrices, -1)  # [I, n, O]
  scale = STEP_SIZE * max(inputs, matrices.shape[-1]) ** 0.5
  return scale * jax.vmap(orthogonalize_via_newton_schulz, in_axes=1, out_axes=1)(matrices).reshape(momentum.shape)


def orthogonalize_via_newton_schulz(x: jax.Array) -> jax.Array:
  """Returns U f(S) V^T of a matrix U S V^T [I, O], where f is near 1 for all but tiny S.

  The Newton-Schulz iteration

      X <- X P,  P = a + b X^T X + c (X^T X)^2

  runs on X^T X, or on X X^T if that is smaller, in full float32, since rounding errors would grow.
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


def _is_kernel(path: tuple) -> bool:
  return path[-1] == jax.tree_util.DictKey("kernel")


def _kernel_mask(params: Params) -> Params:
  """Returns True for kernels, and False for biases, initial states and normalization weights."""
  return jax.tree_util.tree_map_with_path(lambda path, x: _is_kernel(path), params)


def _clip_by_global_norm(limit: float) -> optax.GradientTransformation:
  """`optax.clip_by_global_norm` with one factor, instead of a division and selection per weight: 4% of a VAE's step."""

  def clip(gradient, state, params=None):
    del params
    factor = jnp.minimum(1, limit / global_norm(gradient))
    return jax.tree.map(lambda x: factor * x, gradient), state

  return optax.GradientTransformation(lambda params: optax.EmptyState(), clip)


def global_norm(gradient: Params) -> jax.Array:
  """Returns the Euclidean norm of all entries.

  Sums array by array on a CPU; elsewhere concatenates first, because each array would cost two kernel launches.
  """
  return jax.lax.platform_dependent(gradient, cpu=optax.tree.norm, default=global_norm_joined)


def global_norm_joined(gradient: Params) -> jax.Array:
  return jnp.sqrt(jnp.square(jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(gradient)])).sum())
