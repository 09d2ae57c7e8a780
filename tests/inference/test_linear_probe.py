"""The linear probe against an independent least-squares solution, and its choice of the ridge."""

import numpy as np
import pytest

from latentjax.data import base
from latentjax.inference import linear_probe


def clusters(
  count: int, labels: tuple[int, ...] = (3, 5, 9), spread: float = 1.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
  """Latents [count, 4] around a center for every label; the last unit hardly varies."""
  centres = np.random.default_rng(1).normal(size=(10, 4))
  generator = np.random.default_rng(seed)
  drawn = generator.choice(labels, count)
  latents = centres[drawn] + spread * generator.normal(size=(count, 4))
  return (latents * [1, 1, 1, 1e-3] + 5).astype(np.float32), drawn


@pytest.mark.parametrize("ridge", linear_probe.RIDGES)
def test_ridge_solves_an_augmented_least_squares_problem(ridge):
  """Rows sqrt(M r) e_d with target 0 are the penalty; a column of ones without penalty is the bias."""
  latents, labels = clusters(200)
  latents = latents.astype(float) - latents.astype(float).mean(0)
  one_hot = (labels[:, None] == [3, 5, 9]).astype(float)
  penalty = np.sqrt(len(latents) * ridge) * np.eye(4)
  system = np.block([[latents, np.ones((200, 1))], [penalty, np.zeros((4, 1))]])
  expected = np.linalg.lstsq(system, np.concatenate([one_hot, np.zeros((4, 3))]), rcond=None)[0]
  weights, bias = linear_probe.fit_ridges(latents, labels)
  np.testing.assert_allclose(weights[linear_probe.RIDGES.tolist().index(ridge)], expected[:-1], rtol=1e-6, atol=1e-9)
  np.testing.assert_allclose(bias, expected[-1], rtol=1e-6, atol=1e-9)


def splits():
  """Latents and labels by split."""
  latents, labels = {}, {}
  for seed, (split, count) in enumerate({"train": 60, "validation": 300, "test": 301}.items()):
    latents[split], labels[split] = clusters(count, spread=2.0, seed=seed)
  return latents, labels


def test_units_and_constant_latents_do_not_matter():
  latents, labels = splits()
  scaled = {
    split: np.concatenate([one.astype(float) * [1e-3, 1.0, 50.0, 1.0], np.ones((len(one), 1))], axis=1)
    for split, one in latents.items()
  }
  assert linear_probe.fit_linear_probe(scaled, labels) == linear_probe.fit_linear_probe(latents, labels)


def test_ridge_is_chosen_on_validation_and_measured_on_test():
  latents, labels = splits()
  result = linear_probe.fit_linear_probe(latents, labels)
  mean, std = (reduce(latents["train"].astype(float), axis=0) for reduce in (np.mean, np.std))
  all_weights, bias = linear_probe.fit_ridges((latents["train"] - mean) / std, labels["train"])

  def accuracy(weights, split):
    scores = (latents[split] - mean) / std @ weights + bias
    return np.mean(np.array([3, 5, 9])[scores.argmax(1)] == labels[split])

  accuracies = [accuracy(weights, "validation") for weights in all_weights]
  assert result["validation_accuracy"] == max(accuracies) > min(accuracies)
  chosen = linear_probe.RIDGES.tolist().index(result["ridge"])
  assert accuracies[chosen] == max(accuracies) > max([0, *accuracies[chosen + 1 :]])  # of equal ones the largest ridge
  assert result["accuracy"] == accuracy(all_weights[chosen], "test")
  assert (result["num_classes"], result["num_examples"]) == (3, 301)
  labels["test"] = np.roll(labels["test"], 1)
  assert linear_probe.fit_linear_probe(latents, labels)["ridge"] == result["ridge"]


def test_unlabelled_images_are_ignored():
  latents, labels = {}, {}
  for split in base.SPLITS:
    latents[split], labels[split] = clusters(90)
  result = linear_probe.fit_linear_probe(latents, labels)
  for split in base.SPLITS:
    latents[split] = np.concatenate([np.full((30, 4), 1e6, np.float32), latents[split]])
    labels[split] = np.concatenate([np.full(30, -1), labels[split]])
  assert linear_probe.fit_linear_probe(latents, labels) == result


@pytest.mark.parametrize("lacking", ["validation", "test", "every label of test", "a second class"])
def test_no_probe_without_labels_or_classes(lacking):
  latents, labels = {}, {}
  for split in base.SPLITS:
    latents[split], labels[split] = clusters(20, (3,) if lacking == "a second class" else (3, 5))
  if lacking == "every label of test":
    labels["test"] = np.full(20, -1)
  labels.pop(lacking, None)
  assert linear_probe.fit_linear_probe(latents, labels) is None
