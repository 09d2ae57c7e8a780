"""What happens to images on the device."""

import jax
import jax.numpy as jnp
import numpy as np

from latentjax.data.preprocessing import binarize, gather, to_pixels


def test_binarised_pixels_are_zero_or_one_with_the_grey_value_as_mean():
  grey = np.array([0, 51, 128, 255], np.uint8).reshape(1, 2, 2, 1)
  drawn = np.asarray(binarize(jax.random.key(0), jnp.array(np.repeat(grey, 20_000, axis=0))))
  assert set(np.unique(drawn)) == {0.0, 1.0}
  np.testing.assert_allclose(drawn.mean(0).ravel(), np.array([0, 51, 128, 255]) / 255, atol=0.015)
  assert drawn[:, 0, 0].max() == 0  # black stays black and white stays white
  assert drawn[:, 1, 1].min() == 1


def test_pixels_are_drawn_each_by_itself():
  drawn = np.asarray(binarize(jax.random.key(1), jnp.full((20_000, 2, 3, 1), 128, jnp.uint8)))
  np.testing.assert_allclose(np.corrcoef(drawn.reshape(-1, 6).T), np.eye(6), atol=0.03)


def test_pixels_span_zero_to_one():
  np.testing.assert_allclose(to_pixels(np.array([0, 51, 255], np.uint8)), [0.0, 0.2, 1.0], rtol=1e-6)


def test_gather_takes_the_orders_slice():
  images = np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1)
  order = jnp.array([5, 3, 1, 0, 2, 4])
  np.testing.assert_array_equal(np.ravel(gather(images, order, jnp.int32(1), 2)), [1, 0])
