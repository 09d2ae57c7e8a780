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

  Latents [M, D] are scaled to mean 0 and variance 1 on train; images with a negative label of [M] are ignored.

  Returns:
    accuracy and validation_accuracy, ridge, num_classes, and num_examples of test; None if a split has no labels, or
    train fewer than two classes.
  """
  known = {split: labels[split] >= 0 for split in SPLITS if split in labels and split in latents}
  if len(known) < len(SPLITS) or not all(map(np.any, known.values())):
    return None
  inputs = [latents[split][known[split]].astype(np.float64) for split in SPLITS]
  train_labels, validation_labels, test_labels = (labels[split][known[split]] for split in SPLITS)
  classes = np.unique(train_labels)
  if len(classes) < 2:
    return None
  mean, std = inputs[0].mean(0), inputs[0].std(0)
  train, validation, test = ((x - mean) / np.where(std > 0, std, 1) for x in inputs)
  all_weights, bias = fit_ridges(train, train_labels)

  def accuracy(weights, inputs, labels) -> float:
    return float((classes[(inputs @ weights + bias).argmax(1)] == labels).mean())

  accuracies = [accuracy(weights, validation, validation_labels) for weights in all_weights]
  best = max(range(len(RIDGES)), key=lambda index: (accuracies[index], index))  # ties: the largest ridge
  return {
    "accuracy": accuracy(all_weights[best], test, test_labels),
    "validation_accuracy": accuracies[best],
    "ridge": float(RIDGES[best]),
    "num_classes": len(classes),
    "num_examples": len(test_labels),
  }


def fit_ridges(inputs: np.ndarray, labels: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
  """Minimizes 1/M sum_i |x_i W + b - y_i|^2 + ridge |W|^2 for one-hot labels y_i and inputs x_i of mean 0.

  Returns W [D, N] of every one of `RIDGES`, and their common b [N].
  """
  one_hot = (labels[:, None] == np.unique(labels)).astype(np.float64)  # [M, N]
  gram, target = inputs.T @ inputs / len(inputs), inputs.T @ one_hot / len(inputs)  # [D, D], [D, N]
  return [np.linalg.solve(gram + ridge * np.eye(len(gram)), target) for ridge in RIDGES], one_hot.mean(0)
