"""Traversals: which units, where they stop, and what is held."""

from types import SimpleNamespace

import jax
import numpy as np

from latentjax.modes import sample

KL = [np.array([[0.2, 5.0], [0.4, 3.0]]), np.array([[1.0, 0.0, 2.0], [1.0, 0.0, 2.5]])]  # of two images
MEANS = [np.array([[0.1, 0.2], [7.0, 7.0]]), np.array([[0.3, 0.4, 0.5], [7.0, 7.0, 7.0]])]


def test_the_units_of_the_largest_kl_go_from_minus_3_to_3_and_all_else_stays(monkeypatch):
  """With a decoder that shows the latents themselves, as an image of 1 x 5 pixels."""
  monkeypatch.setattr(sample, "UNITS", 3)
  inference = SimpleNamespace(
    unit_kl=lambda variables, images, key: KL,
    encode=lambda variables, images: [means[: len(images)] for means in MEANS],
    decode=lambda variables, latents: np.concatenate(latents, axis=1)[:, None, :, None],
  )
  keys = SimpleNamespace(evaluate=jax.random.key(0))
  trained = SimpleNamespace(inference=inference, variables=None, keys=keys)
  images, titles = sample.traverse(trained, np.zeros((2, 1, 5, 1)))
  assert titles == ["z1, unit 2\n4.00 nats", "z2, unit 3\n2.25 nats", "z2, unit 1\n1.00 nats"]
  assert images.shape == (3, len(sample.VALUES), 1, 5, 1)
  for row, unit in zip(images[:, :, 0, :, 0], (1, 4, 2), strict=True):
    np.testing.assert_array_equal(row[:, unit], np.linspace(-3, 3, 13))
    held = np.delete(row, unit, axis=1)
    np.testing.assert_allclose(held, np.tile(np.delete([0.1, 0.2, 0.3, 0.4, 0.5], unit), (13, 1)), rtol=1e-6)
