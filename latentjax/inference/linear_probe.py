"""Linear probe: accuracy of a linear classifier of the latents.

Shapes: M images, D latents of all groups, N classes.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from latentjax.data.base import SPLITS

RIDGES = 10.0 ** np.arange(-6, 3)  # candidate penalties


def fit_linear_probe(latents: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray]) -> dict[str, Any] | None:
  """Fits a linear classifier to train, chooses its ridge on validation and measures it on test.

  Args:
    latents: [M, D] by split; each latent is scaled to mean 0 and variance 1 on train.
    labels: [M] integers by split; images with a negative label are ignored.

  Returns:
    accuracy and validation_accuracy, ridge, num_classes, and num_examples of test; None if a split has no labels, or
    train fewer than two classes.
  """
  from sklearn.preprocessing import StandardScaler

  known = {split: labels[split] >= 0 for split in SPLITS if split in labels and split in latents}
  if len(known) < len(SPLITS) or not all(map(np.any, known.values())):
    return None
  inputs = [latents[split][known[split]].astype(np.float64) for split in SPLITS]
  train_labels, validation_labels, test_labels = (labels[split][known[split]] for split in SPLITS)
  classes = np.unique(train_labels)
  if len(classes) < 2:
    return None
  train, validation, test = map(StandardScaler().fit(inputs[0]).transform, inputs)

  def accuracy(probe, inputs, labels) -> float:
    return float((classes[probe.predict(inputs).argmax(1)] == labels).mean())

  probes = [fit_ridge(train, train_labels, ridge) for ridge in RIDGES]
  accuracies = [accuracy(probe, validation, validation_labels) for probe in probes]
  best = max(range(len(RIDGES)), key=lambda index: (accuracies[index], index))  # of equal ones the largest ridge
  return {
    "accuracy": accuracy(probes[best], test, test_labels),
    "validation_accuracy": accuracies[best],
    "ridge": float(RIDGES[best]),
    "num_classes": len(classes),
    "num_examples": len(test_labels),
  }


def fit_ridge(inputs: np.ndarray, labels: np.ndarray, ridge: float):
  """Fits scikit-learn's `Ridge` to one-hot labels y_i: minimises 1/M sum_i |x_i W + b - y_i|^2 + ridge |W|^2."""
  from sklearn.linear_model import Ridge

  one_hot = (labels[:, None] == np.unique(labels)).astype(np.float64)  # [M, N]
  return Ridge(alpha=ridge * len(inputs)).fit(inputs, one_hot)
