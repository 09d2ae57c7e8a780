"""The baseline of bits per dimension, on pixels whose entropy is known."""

import math

import numpy as np
import pytest

from benchmarks import pixel_mixture
from latentjax.models.likelihoods import LogisticMixture


def test_a_mixture_reaches_the_entropy_of_two_noisy_colors():
  """The choice of one of two colors is 1 bit, and Gaussian noise of deviation 4 has 1/2 log2(2 pi e 4^2) per value."""
  generator = np.random.default_rng(0)
  colors = np.array([[40, 120, 200], [180, 60, 90]])[generator.integers(0, 2, 20_000)]
  pixels = np.rint(colors + generator.normal(0, 4, colors.shape)).astype(np.uint8).reshape(-1, 1, 1, 3)
  likelihood = LogisticMixture(num_components=3)
  fitted = pixel_mixture.fit(likelihood, pixels[:16_000], steps=300, seed=0)
  entropy = 1 / 3 + 0.5 * math.log2(2 * math.pi * math.e * 4**2)
  assert pixel_mixture.evaluate(likelihood, fitted, pixels[16_000:]) == pytest.approx(entropy + 0.03, abs=0.05)
