"""The closed form against least squares by another way, and what the probe is told and tells."""

import numpy as np
import pytest

from latentjax.data import base
from latentjax.inference import linear_probe


def clusters(
  count: int, labels: tuple[int, ...] = (3, 5, 9), spread: float = 1.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
  """Latents [count, 4] around a centre for every label; the last unit is nearly silent."""
  centres = np.random.default_rng(1).normal(size=(10, 4))
  generator = np.random.default_rng(seed)
  drawn = generator.choice(labels, count)
  latents = centres[drawn] + spread * generator.normal(size=(count, 4))
  return (latents * [1, 1, 1, 1e-3] + 5).astype(np.float32), drawn


@pytest.mark.parametrize("ridge", [1e-6, 0.1, 10.0])
def test_the_closed_form_is_the_least_squares_of_an_augmented_system(ridge, monkeypatch):
  """Rows sqrt(M r) s_d e_d with target 0 are the penalty; a column of ones that is not penalised is the bias."""
  monkeypatch.setattr(linear_probe, "CHUNK_SIZE", 70)  # does not divide M
  latents, labels = clusters(200)
  one_hot = (labels[:, None] == [3, 5, 9]).astype(float)
  penalty = np.sqrt(len(latents) * ridge) * np.diag(latents.std(0, dtype=float))
  system = np.block([[latents.astype(float), np.ones((200, 1))], [penalty, np.zeros((4, 1))]])
  expected = np.linalg.lstsq(system, np.concatenate([one_hot, np.zeros((4, 3))]), rcond=None)[0]
  (found,) = linear_probe.fit_ridge(latents, labels, [ridge])
  np.testing.assert_allclose(found.weights, expected[:-1], rtol=1e-6, atol=1e-9)
  np.testing.assert_allclose(found.bias, expected[-1], rtol=1e-6, atol=1e-9)
  assert found.classes.tolist() == [3, 5, 9]


def test_units_do_not_matter_and_a_unit_that_never_moves_has_no_weight():
  latents, labels = clusters(200)
  (one,) = linear_probe.fit_ridge(latents, labels, [0.1])
  other = latents.astype(float) * [1e-3, 1.0, 50.0, 1.0]
  (two,) = linear_probe.fit_ridge(np.concatenate([other, np.ones((200, 1))], axis=1), labels, [0.1])
  np.testing.assert_allclose(other @ two.weights[:4] + two.bias, latents @ one.weights + one.bias, rtol=1e-5, atol=1e-7)
  np.testing.assert_array_equal(two.weights[4], np.zeros(3))


def test_the_ridge_is_chosen_on_validation_and_test_is_only_measured():
  latents, labels = {}, {}
  for split, count in (("train", 60), ("validation", 300), ("test", 301)):
    latents[split], labels[split] = clusters(count, spread=2.0)
  told = linear_probe.fit_linear_probe(latents, labels)
  probes = linear_probe.fit_ridge(latents["train"], labels["train"], linear_probe.RIDGES)
  accuracies = [one.accuracy(latents["validation"], labels["validation"]) for one in probes]
  assert told["validation_accuracy"] == max(accuracies) > min(accuracies)
  chosen = probes[linear_probe.RIDGES.tolist().index(told["ridge"])]
  scores = np.stack([latents["test"] @ chosen.weights[:, n] + chosen.bias[n] for n in range(3)])
  assert told["accuracy"] == np.mean(np.array([3, 5, 9])[scores.argmax(0)] == labels["test"])
  assert (told["num_classes"], told["num_examples"]) == (3, 301)
  labels["test"] = np.roll(labels["test"], 1)
  assert linear_probe.fit_linear_probe(latents, labels)["ridge"] == told["ridge"]


def test_images_without_a_label_do_not_count():
  latents, labels = {}, {}
  for split in base.SPLITS:
    latents[split], labels[split] = clusters(90)
  told = linear_probe.fit_linear_probe(latents, labels)
  for split in base.SPLITS:
    latents[split] = np.concatenate([np.full((30, 4), 1e6, np.float32), latents[split]])
    labels[split] = np.concatenate([np.full(30, -1), labels[split]])
  assert linear_probe.fit_linear_probe(latents, labels) == told


@pytest.mark.parametrize("lacking", ["validation", "test", "every label of test", "a second class"])
def test_no_probe_without_what_it_takes(lacking):
  latents, labels = {}, {}
  for split in base.SPLITS:
    latents[split], labels[split] = clusters(20, (3,) if lacking == "a second class" else (3, 5))
  if lacking == "every label of test":
    labels["test"] = np.full(20, -1)
  labels.pop(lacking, None)
  assert linear_probe.fit_linear_probe(latents, labels) is None
