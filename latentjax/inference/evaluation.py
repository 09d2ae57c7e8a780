"""Evaluation of a trained model: host loops over batches of its compiled functions.

Shapes: M images in a split, B batch, L latent groups, Z_l latents of a group, K importance samples, S seeds. All values
in nats per image.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from latentjax.inference.functions import SAMPLES_PER_CHUNK, InferenceFns
from latentjax.models.base import Variables

Metrics = dict[str, Any]


def evaluate_elbo(
  inference: InferenceFns, variables: Variables, images: np.ndarray, key: jax.Array, batch_size: int
) -> Metrics:
  """Returns the ELBO and its terms, with one posterior sample per image, averaged over images.

  Args:
    inference, variables: Compiled functions and variables of one seed, or of S seeds.
    images: [M, H, W, C] uint8.
    key: Key, or [S] keys; batch i uses fold_in(key, i).
    batch_size: B, see `batches`.

  Returns:
    elbo, kl, reconstruction with elbo = -(kl + reconstruction), kl_per_group, a list of L, and elbo_stderr (standard
    error of the mean over images and samples; None for one image); with S seeds, a list of S of each.
  """
  log_px, kl = per_image_terms(inference, variables, images, key, batch_size)
  reconstruction = -log_px.mean(-1, dtype=np.float64)
  per_group = kl.mean(-2, dtype=np.float64)  # [L] or [S, L]
  total = per_group.sum(-1)
  metrics = {"elbo": -(total + reconstruction), "kl": total, "reconstruction": reconstruction}
  metrics |= {"kl_per_group": per_group, "elbo_stderr": _standard_error(log_px - kl.sum(-1))}
  return {name: value.tolist() for name, value in metrics.items()}


def _standard_error(values: np.ndarray) -> np.ndarray:
  """Returns the standard error of the mean over the last axis; None for one value."""
  count = values.shape[-1]
  return values.std(-1, ddof=1, dtype=np.float64) / np.sqrt(count) if count > 1 else np.full(values.shape[:-1], None)


def per_image_terms(
  inference: InferenceFns, variables: Variables, images: np.ndarray, key: jax.Array, batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
  """Returns log p(x|z) [M] and KLs [M, L] of every image; with seeds, a leading axis S. See `evaluate_elbo`."""
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
) -> Metrics:
  """Returns -log p(x) by importance sampling, averaged over images; see `log_likelihoods`.

  The metrics are nll, nll_stderr (standard error of the mean over images; None for one image), nll_samples, and
  nll_curve, pairs [k, nll] of the estimates from the first k = 1, 10, 100, ... K samples.
  """
  sample_counts = [k for k in (10**power for power in range(8)) if k < num_samples] + [num_samples]
  nll = -log_likelihoods(inference, variables, images, key, batch_size, sample_counts, report)
  curve = [[k, float(value)] for k, value in zip(sample_counts, nll.mean(1), strict=True)]
  metrics = {"nll": curve[-1][1], "nll_stderr": _standard_error(nll[-1]).tolist()}
  return metrics | {"nll_samples": num_samples, "nll_curve": curve}


def log_likelihoods(
  inference: InferenceFns,
  variables: Variables,
  images: np.ndarray,
  key: jax.Array,
  batch_size: int,
  sample_counts: Sequence[int],
  report: Callable[[int], None],
) -> np.ndarray:
  """Returns log 1/k sum_k p(x, z_k)/q(z_k | x), [len(sample_counts), M]; in expectation lower bounds of log p(x).

  Args:
    inference, variables, images, batch_size: See `evaluate_elbo`; of one seed.
    key: Key; sample k of chunk c of batch i uses fold_in(fold_in(fold_in(key, i), c), k).
    sample_counts: Values of k, ascending; each estimate uses the first k of the same K = sample_counts[-1] samples.
    report: Called after every chunk with its number of samples, those of all images.
  """
  num_samples, estimates = sample_counts[-1], []
  for index, batch, count in batches(images, batch_size, inference.num_devices):
    log_sum, bounds = np.full((1, count), -np.inf), []  # log_sum: log sum_k w_k of all samples so far
    for chunk, done in enumerate(range(0, num_samples, SAMPLES_PER_CHUNK)):
      chunk_key = jax.random.fold_in(jax.random.fold_in(key, index), chunk)
      samples = min(SAMPLES_PER_CHUNK, num_samples - done)
      log_weight = np.asarray(inference.log_weights(variables, batch, chunk_key, samples), np.float64)[:samples, :count]
      log_sums = np.logaddexp.accumulate(np.concatenate([log_sum, log_weight]))  # after 0, 1, .. samples of the chunk
      bounds += [log_sums[k - done] - math.log(k) for k in sample_counts if done < k <= done + samples]
      log_sum = log_sums[-1:]
      report(count * samples)
    estimates.append(bounds)
  return np.concatenate(estimates, axis=1)


def active_units(inference: InferenceFns, variables: Variables, images: np.ndarray, batch_size: int) -> list[int]:
  """Returns the number of active units of each group: Var_x(E_q[z]) > 0.01 (Burda et al. 2016, arXiv:1509.00519).

  Means are in units of the prior, so a unit that only follows the layer above is not active.
  """
  means = encode(inference, variables, images, batch_size)
  return [int((group.var(0, dtype=np.float64) > 0.01).sum()) for group in means]


def kl_per_latent(
  inference: InferenceFns, variables: Variables, images: np.ndarray | jax.Array, key: jax.Array
) -> list[np.ndarray]:
  """Returns L arrays [Z_l] in nats: the KL of every latent, averaged over one batch of images, one sample each.

  The samples are those of the first batch of `per_image_terms` with the same key.
  """
  return [np.asarray(group).mean(0) for group in inference.kl_per_unit(variables, images, jax.random.fold_in(key, 0))]


def encode(inference: InferenceFns, variables: Variables, images: np.ndarray, batch_size: int) -> list[np.ndarray]:
  """Returns L arrays [M, Z_l]: posterior means in units of the prior."""
  means = [
    [np.asarray(group)[:count] for group in inference.encode(variables, batch)]
    for _, batch, count in batches(images, batch_size, inference.num_devices)
  ]
  return [np.concatenate(group) for group in zip(*means, strict=True)]


def decode(inference: InferenceFns, variables: Variables, latents: Sequence[np.ndarray], batch_size: int) -> np.ndarray:
  """Returns pixel means [M, H, W, C] for latents as returned by `encode`."""
  means = []
  for groups in zip(*(batches(group, batch_size, inference.num_devices) for group in latents), strict=True):
    _, _, count = groups[0]
    means.append(np.asarray(inference.decode(variables, [batch for _, batch, _ in groups]))[:count])
  return np.concatenate(means)


def batches(images: np.ndarray, batch_size: int, num_devices: int) -> Iterator[tuple[int, jax.Array, int]]:
  """Yields (index, batch [B, ...], number of valid examples) of an array [M, ...].

  B is `batch_size` (M, if that is less), rounded up to a multiple of `num_devices`. The last batch is padded with its
  last example: one shape needs one compilation, and DRAW's noise depends on the shape.
  """
  batch_size = min(batch_size, len(images))
  for index, start in enumerate(range(0, len(images), batch_size)):
    batch = images[start : start + batch_size]
    missing = batch_size - len(batch) + -batch_size % num_devices
    yield index, jnp.asarray(np.pad(batch, [(0, missing), *[(0, 0)] * (batch.ndim - 1)], mode="edge")), len(batch)
