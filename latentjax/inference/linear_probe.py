"""A linear probe: how well a linear function of the latents tells labels apart, in closed form.

Shapes: M images, D latents of all groups, N classes.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from latentjax.data.base import SPLITS

RIDGES = 10.0 ** np.arange(-6, 3)  # penalties to choose from

CHUNK_SIZE = 1000  # images at a time in double precision


class Probe(NamedTuple):
  """The class of latents x is that of the largest x W + b; W is [D, N], b [N], and the classes are labels [N]."""

  weights: np.ndarray
  bias: np.ndarray
  classes: np.ndarray

  def accuracy(self, latents: np.ndarray, labels: np.ndarray) -> float:
    """The fraction of images with these latents [M, D] whose class is their label [M]."""
    return float((self.classes[(latents @ self.weights + self.bias).argmax(1)] == labels).mean())


def fit_ridge(latents: np.ndarray, labels: np.ndarray, ridges: Sequence[float]) -> list[Probe]:
  """Ridge regression on one-hot labels, for every ridge r the minimum of

      1/M sum_i |x_i W + b - y_i|^2 + r sum_d s_d^2 |W_d|^2

  with the standard deviations s of the latents: what it comes to does not depend on their units.

  Args:
    latents, labels: [M, D] and whole numbers [M].
  """
  classes, numbers = np.unique(labels, return_inverse=True)
  one_hot, mean = np.eye(len(classes)), latents.mean(0, dtype=np.float64)
  covariance, cross = 0, 0  # of x with itself and with y
  for start in range(0, len(latents), CHUNK_SIZE):
    centred = latents[start : start + CHUNK_SIZE] - mean
    covariance += centred.T @ centred / len(latents)
    cross += centred.T @ one_hot[numbers[start : start + CHUNK_SIZE]] / len(latents)
  std = np.sqrt(covariance.diagonal())
  scale = np.divide(1, std, out=np.zeros_like(std), where=std > 0)
  values, vectors = np.linalg.eigh(covariance * np.outer(scale, scale))
  values, cross = np.maximum(values, 0), vectors.T @ (cross * scale[:, None])
  probes = []
  for ridge in ridges:
    weights = scale[:, None] * (vectors @ (cross / (values + ridge)[:, None]))
    probes.append(Probe(weights, one_hot[numbers].mean(0) - mean @ weights, classes))
  return probes


def fit_linear_probe(latents: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray]) -> dict[str, Any] | None:
  """Fitted to train, its ridge chosen on validation, and its accuracy on test; None where there is nothing to tell.

  Args:
    latents, labels: [M, D] and [M] by split; images with a negative label are left out.
  """
  known = {split: labels[split] >= 0 for split in SPLITS if split in labels and split in latents}
  if len(known) < len(SPLITS) or not all(map(np.any, known.values())):
    return None
  (x, y), validation, test = ((latents[split][known[split]], labels[split][known[split]]) for split in SPLITS)
  if len(np.unique(y)) < 2:
    return None
  probes = fit_ridge(x, y, RIDGES)
  best = max(
    range(len(probes)), key=lambda index: (probes[index].accuracy(*validation), index)
  )  # of equals the simplest
  return {
    "accuracy": probes[best].accuracy(*test),
    "validation_accuracy": probes[best].accuracy(*validation),
    "ridge": float(RIDGES[best]),
    "num_classes": len(probes[best].classes),
    "num_examples": len(test[1]),
  }
