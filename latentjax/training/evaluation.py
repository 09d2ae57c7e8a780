"""A trained model becomes numbers: host loops over the compiled functions of `step.py`.

Shapes: M images in a split, B batch, L latent groups, K importance samples. All values in nats per image.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from latentjax.training.objectives import log_mean_exp
from latentjax.training.state import Params
from latentjax.training.step import Steps

Numbers = dict[str, Any]


def bound(steps: Steps, params: Params, images: np.ndarray, key: jax.Array, batch_size: int) -> Numbers:
  """The bound of every image with one posterior sample each, averaged.

  Args:
    images: [M, H, W, C] uint8, used as they are.
    key: batch number i uses fold_in(key, i).

  Returns:
    elbo, kl, reconstruction with elbo = -(kl + reconstruction), and kl_per_group, a list of L.
  """
  log_px, kl = [], []
  for index, batch, count in batches(images, batch_size):
    terms = steps.evaluate(params, batch, jax.random.fold_in(key, index))
    log_px.append(terms.log_px[:count])
    kl.append(terms.kl[:count])
  reconstruction = -float(np.concatenate(log_px).mean(dtype=np.float64))
  per_group = np.concatenate(kl).mean(0, dtype=np.float64)  # [L]
  total = float(per_group.sum())
  return {
    "elbo": -(total + reconstruction),
    "kl": total,
    "reconstruction": reconstruction,
    "kl_per_group": per_group.tolist(),
  }


def negative_log_likelihood(
  steps: Steps,
  params: Params,
  images: np.ndarray,
  key: jax.Array,
  batch_size: int,
  num_samples: int,
  report: Callable[[int], None],
) -> Numbers:
  """-log p(x) by importance sampling: -log 1/K sum_k p(x, z_k)/q(z_k | x), an upper bound for any K.

  Args:
    images, key, batch_size: as in `bound`.
    num_samples: K.
    report: called with the number of images of every finished batch.

  Returns:
    nll, nll_stderr (standard error of the mean over images; None for one image) and nll_samples.
  """
  values = []
  for index, batch, count in batches(images, batch_size):
    keys = jax.random.split(jax.random.fold_in(key, index), num_samples)
    values.append(-np.asarray(log_mean_exp(steps.weigh(params, batch, keys)))[:count])
    report(count)
  nll = np.concatenate(values).astype(np.float64)  # [M]
  stderr = float(nll.std(ddof=1) / np.sqrt(len(nll))) if len(nll) > 1 else None
  return {"nll": float(nll.mean()), "nll_stderr": stderr, "nll_samples": num_samples}


def batches(images: np.ndarray, batch_size: int) -> Iterator[tuple[int, jax.Array, int]]:
  """(index, [B, H, W, C], images that count): the last batch is filled up with its last image, for one shape."""
  batch_size = min(batch_size, len(images))
  for index, start in enumerate(range(0, len(images), batch_size)):
    batch = images[start : start + batch_size]
    missing = batch_size - len(batch)
    yield index, jnp.asarray(np.pad(batch, [(0, missing), (0, 0), (0, 0), (0, 0)], mode="edge")), len(batch)
