"""A trained model becomes numbers: host loops over the compiled functions of a model.

Shapes: M images in a split, B batch, L latent groups, Z_l latents of a group, K importance samples. All values in
nats per image.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from latentjax.inference.functions import InferenceFns
from latentjax.models.base import Variables
from latentjax.models.elbo import log_mean_exp

Numbers = dict[str, Any]


SAMPLES_PER_CHUNK = 100  # importance samples of a batch per dispatch: bounds memory, and moves the progress bar

ACTIVE_THRESHOLD = 0.01  # Burda et al. 2016: a unit is active if its posterior mean varies more than this over the data


def evaluate_elbo(
  inference: InferenceFns, variables: Variables, images: np.ndarray, key: jax.Array, batch_size: int
) -> Numbers:
  """The bound of every image with one posterior sample each, averaged.

  Args:
    inference, variables: of one seed, or of S together.
    images: [M, H, W, C] uint8, used as they are.
    key: batch number i uses fold_in(key, i); [S] where there are S seeds.

  Returns:
    elbo, kl, reconstruction with elbo = -(kl + reconstruction), kl_per_group, a list of L, and elbo_stderr (standard
    error of the mean over images and their samples; None for one image); of S seeds a list of S of each.
  """
  log_px, kl = per_image_terms(inference, variables, images, key, batch_size)
  reconstruction = -log_px.mean(-1, dtype=np.float64)
  per_group = kl.mean(-2, dtype=np.float64)  # [L] or [S, L]
  total = per_group.sum(-1)
  numbers = {"elbo": -(total + reconstruction), "kl": total, "reconstruction": reconstruction}
  numbers |= {"kl_per_group": per_group, "elbo_stderr": standard_error(log_px - kl.sum(-1))}
  return {name: value.tolist() for name, value in numbers.items()}


def standard_error(values: np.ndarray) -> np.ndarray:
  """Of the mean over the last axis; None for one value."""
  count = values.shape[-1]
  if count == 1:
    return np.full(values.shape[:-1], None)
  return values.std(-1, ddof=1, dtype=np.float64) / np.sqrt(count)


def per_image_terms(
  inference: InferenceFns, variables: Variables, images: np.ndarray, key: jax.Array, batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
  """log p(x|z) [M] and the KLs [M, L] of every image; arguments as of `bound`, and S in front where there are seeds."""
  fold_in = jnp.vectorize(jax.random.fold_in)
  log_px, kl = [], []
  for index, batch, count in batches(images, batch_size, inference.num_devices):
    terms = inference.evaluate(variables, batch, fold_in(key, index))
    log_px.append(terms.log_px[..., :count])
    kl.append(terms.kl[..., :count, :])
  return np.concatenate(log_px, axis=-1), np.concatenate(kl, axis=-2)


def negative_log_likelihood(
  inference: InferenceFns,
  variables: Variables,
  images: np.ndarray,
  key: jax.Array,
  batch_size: int,
  num_samples: int,
  report: Callable[[int], None],
) -> Numbers:
  """-log p(x) by importance sampling, averaged over images; see `log_likelihoods`, which has the arguments.

  Returns:
    nll, nll_stderr (standard error of the mean over images; None for one image), nll_samples, and nll_curve, pairs
    [k, nll] of the estimates from the first k = 1, 10, 100, ... K samples.
  """
  kept = [k for k in (10**power for power in range(8)) if k < num_samples] + [num_samples]
  nll = -log_likelihoods(inference, variables, images, key, batch_size, kept, report).astype(np.float64)
  curve = [[k, float(value)] for k, value in zip(kept, nll.mean(1), strict=True)]
  return {
    "nll": curve[-1][1],
    "nll_stderr": standard_error(nll[-1]).tolist(),
    "nll_samples": num_samples,
    "nll_curve": curve,
  }


def log_likelihoods(
  inference: InferenceFns,
  variables: Variables,
  images: np.ndarray,
  key: jax.Array,
  batch_size: int,
  kept: Sequence[int],
  report: Callable[[int], None],
) -> np.ndarray:
  """[len(kept), M] log 1/k sum_k p(x, z_k)/q(z_k | x) of every image, on average a lower bound of log p(x) for any k.

  Args:
    images, batch_size: as in `bound`.
    key: chunk number c of batch number i uses fold_in(fold_in(key, i), c).
    kept: the numbers k of samples from which to estimate, ascending: the first k of the same K = kept[-1].
    report: called with the number of samples (images times K) of every finished chunk.
  """
  num_samples, estimates = kept[-1], []
  for index, batch, count in batches(images, batch_size, inference.num_devices):
    chunks = []
    for chunk, done in enumerate(range(0, num_samples, SAMPLES_PER_CHUNK)):
      chunk_key = jax.random.fold_in(jax.random.fold_in(key, index), chunk)
      keys = jax.random.split(chunk_key, min(SAMPLES_PER_CHUNK, num_samples - done))
      chunks.append(np.asarray(inference.log_weights(variables, batch, keys))[:, :count])
      report(count * len(keys))
    log_weight = np.concatenate(chunks)  # [K, B]
    estimates.append(np.stack([np.asarray(log_mean_exp(log_weight[:k])) for k in kept]))
  return np.concatenate(estimates, axis=1)


def active_units(inference: InferenceFns, variables: Variables, images: np.ndarray, batch_size: int) -> list[int]:
  """How many latents of each group use the image: Var_x(E_q[z]) > 0.01 (Burda et al. 2016, arXiv:1509.00519).

  The mean is taken in units of the prior, so that a unit which only follows the layer above does not count.

  Args:
    images, batch_size: as in `bound`.
  """
  means = encode(inference, variables, images, batch_size)
  return [int((group.var(0, dtype=np.float64) > ACTIVE_THRESHOLD).sum()) for group in means]


def encode(inference: InferenceFns, variables: Variables, images: np.ndarray, batch_size: int) -> list[np.ndarray]:
  """L arrays [M, Z_l]: posterior means in units of the prior; arguments as of `bound`."""
  means = [
    [np.asarray(group)[:count] for group in inference.encode(variables, batch)]
    for _, batch, count in batches(images, batch_size, inference.num_devices)
  ]
  return [np.concatenate(group) for group in zip(*means, strict=True)]


def decode(inference: InferenceFns, variables: Variables, latents: Sequence[np.ndarray], batch_size: int) -> np.ndarray:
  """[M, H, W, C] pixel means for latents as `encode` returns them."""
  groups = zip(*(batches(group, batch_size, inference.num_devices) for group in latents), strict=True)
  means = []
  for of_groups in groups:
    _, _, count = of_groups[0]
    means.append(np.asarray(inference.decode(variables, [batch for _, batch, _ in of_groups]))[:count])
  return np.concatenate(means)


def batches(images: np.ndarray, batch_size: int, num_devices: int) -> Iterator[tuple[int, jax.Array, int]]:
  """(index, [B, ...], images that count) of an array [M, ...]: batches are filled up with their last, for one shape.

  B is `batch_size`, or the next multiple of `num_devices`. DRAW draws other noise in a batch of another shape.
  """
  batch_size = min(batch_size, len(images))
  for index, start in enumerate(range(0, len(images), batch_size)):
    batch = images[start : start + batch_size]
    missing = batch_size - len(batch) + -batch_size % num_devices
    yield index, jnp.asarray(np.pad(batch, [(0, missing), *[(0, 0)] * (batch.ndim - 1)], mode="edge")), len(batch)
