"""A trained model becomes numbers: host loops over the compiled functions of `step.py`.

Shapes: M images in a split, B batch, L latent groups, Z_l latents of a group, K importance samples. All values in
nats per image.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from latentjax.training.objectives import log_mean_exp
from latentjax.training.state import Variables
from latentjax.training.step import Steps

Numbers = dict[str, Any]

CHUNK = 100  # importance samples of a batch per dispatch: bounds memory, and moves the progress bar
ACTIVE = 0.01  # Burda et al. 2016: a unit is active if its posterior mean varies more than this over the data


def bound(steps: Steps, variables: Variables, images: np.ndarray, key: jax.Array, batch_size: int) -> Numbers:
  """The bound of every image with one posterior sample each, averaged.

  Args:
    steps, variables: of one seed, or of S together.
    images: [M, H, W, C] uint8, used as they are.
    key: batch number i uses fold_in(key, i); [S] where there are S seeds.

  Returns:
    elbo, kl, reconstruction with elbo = -(kl + reconstruction), and kl_per_group, a list of L; of S seeds a list of S
    of each.
  """
  fold_in = jnp.vectorize(jax.random.fold_in)
  log_px, kl = [], []
  for index, batch, count in batches(images, batch_size, steps.num_devices):
    terms = steps.evaluate(variables, batch, fold_in(key, index))
    log_px.append(terms.log_px[..., :count])
    kl.append(terms.kl[..., :count, :])
  reconstruction = -np.concatenate(log_px, axis=-1).mean(-1, dtype=np.float64)
  per_group = np.concatenate(kl, axis=-2).mean(-2, dtype=np.float64)  # [L] or [S, L]
  total = per_group.sum(-1)
  numbers = {"elbo": -(total + reconstruction), "kl": total, "reconstruction": reconstruction}
  return {name: value.tolist() for name, value in {**numbers, "kl_per_group": per_group}.items()}


def negative_log_likelihood(
  steps: Steps,
  variables: Variables,
  images: np.ndarray,
  key: jax.Array,
  batch_size: int,
  num_samples: int,
  report: Callable[[int], None],
) -> Numbers:
  """-log p(x) by importance sampling: -log 1/K sum_k p(x, z_k)/q(z_k | x), an upper bound for any K.

  Args:
    images, batch_size: as in `bound`.
    key: chunk number c of batch number i uses fold_in(fold_in(key, i), c).
    num_samples: K.
    report: called with the number of samples (images times K) of every finished chunk.

  Returns:
    nll, nll_stderr (standard error of the mean over images; None for one image), nll_samples, and nll_curve, pairs
    [k, nll] of the estimates from the first k = 1, 10, 100, ... K samples.
  """
  kept = [k for k in (10**power for power in range(8)) if k < num_samples] + [num_samples]
  estimates = []
  for index, batch, count in batches(images, batch_size, steps.num_devices):
    log_weights = []
    for chunk, done in enumerate(range(0, num_samples, CHUNK)):
      chunk_key = jax.random.fold_in(jax.random.fold_in(key, index), chunk)
      keys = jax.random.split(chunk_key, min(CHUNK, num_samples - done))
      log_weights.append(np.asarray(steps.weigh(variables, batch, keys))[:, :count])
      report(count * len(keys))
    log_weight = np.concatenate(log_weights)  # [K, B]
    estimates.append(np.stack([-np.asarray(log_mean_exp(log_weight[:k])) for k in kept]))
  nll = np.concatenate(estimates, axis=1, dtype=np.float64)  # [len(kept), M]
  stderr = float(nll[-1].std(ddof=1) / np.sqrt(nll.shape[1])) if nll.shape[1] > 1 else None
  curve = [[k, float(value)] for k, value in zip(kept, nll.mean(1), strict=True)]
  return {"nll": curve[-1][1], "nll_stderr": stderr, "nll_samples": num_samples, "nll_curve": curve}


def active_units(steps: Steps, variables: Variables, images: np.ndarray, batch_size: int) -> list[int]:
  """How many latents of each group use the image: Var_x(E_q[z]) > 0.01 (Burda et al. 2016, arXiv:1509.00519).

  The mean is taken in units of the prior, so that a unit which only follows the layer above does not count.

  Args:
    images, batch_size: as in `bound`.
  """
  means = [
    [np.asarray(group)[:count] for group in steps.encode(variables, batch)]
    for _, batch, count in batches(images, batch_size, steps.num_devices)
  ]
  return [int((np.concatenate(group).var(0, dtype=np.float64) > ACTIVE).sum()) for group in zip(*means, strict=True)]


def batches(images: np.ndarray, batch_size: int, num_devices: int) -> Iterator[tuple[int, jax.Array, int]]:
  """(index, [B, H, W, C], images that count): batches are filled up with their last image, for one shape.

  B is `batch_size`, or the next multiple of `num_devices`. DRAW draws other noise in a batch of another shape.
  """
  batch_size = min(batch_size, len(images))
  for index, start in enumerate(range(0, len(images), batch_size)):
    batch = images[start : start + batch_size]
    missing = batch_size - len(batch) + -batch_size % num_devices
    yield index, jnp.asarray(np.pad(batch, [(0, missing), (0, 0), (0, 0), (0, 0)], mode="edge")), len(batch)
