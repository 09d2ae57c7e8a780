"""Scenes of two digits, against a search over all pairs and places."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from latentjax.data import dataset, two_digits
from latentjax.data.two_digits import CANVAS_SIZE, compose_scenes
from latentjax.runtime.errors import UsageError

compose_scenes = jax.jit(compose_scenes)


def found_at(canvas: np.ndarray, image: np.ndarray) -> list[tuple[int, int]]:
  """Returns every corner where no pixel of the canvas is darker than the image."""
  height, width = image.shape[:2]
  return [
    (row, column)
    for row in range(len(canvas) - height + 1)
    for column in range(canvas.shape[1] - width + 1)
    if (canvas[row : row + height, column : column + width] >= image).all()
  ]


def test_scene_is_the_clipped_sum_of_two_images():
  """Images of 29 x 27 bright pixels overlap in most scenes; a search finds the two and their corners."""
  images = np.random.default_rng(0).integers(100, 256, (5, 29, 27, 1), np.uint8)
  composed = np.asarray(compose_scenes(jax.random.key(0), jnp.asarray(images)))
  assert composed.shape == (5, CANVAS_SIZE, CANVAS_SIZE, 1)
  assert composed.dtype == np.uint8
  partners, overlaps = [], 0
  for index, canvas in enumerate(composed):
    matches = []
    for partner in set(range(5)) - {index}:
      for first in found_at(canvas, images[index]):
        for second in found_at(canvas, images[partner]):
          total = np.zeros(canvas.shape, int)
          for (row, column), image in ((first, images[index]), (second, images[partner])):
            total[row : row + 29, column : column + 27] += image
          if (np.minimum(total, 255) == canvas).all():
            matches.append((partner, total.max()))
    ((partner, brightest),) = matches
    partners.append(partner)
    overlaps += brightest > 255
  assert sorted(partners) == list(range(5))  # each is a partner once
  assert overlaps > 0


def test_places_and_partners_are_uniform():
  """Images of one pixel, at its value in a scene of zeros: 60 rows, 60 columns and 3 partners, by their counts."""
  images = jnp.array([1, 2, 4, 8], jnp.uint8).reshape(4, 1, 1, 1)
  composed = np.asarray(jax.vmap(compose_scenes, (0, None))(jax.random.split(jax.random.key(1), 1500), images))[..., 0]
  totals = composed.reshape(1500, 4, -1).sum(-1)
  np.testing.assert_allclose([(totals[:, 0] == 1 + other).mean() for other in (2, 4, 8)], 1 / 3, atol=0.05)
  for axis in (2, 3):  # 12,000 pixels over 60 lines: 200 each, with a standard deviation of 14
    lines = (composed > 0).sum((0, 1, axis))
    assert lines.min() > 130
    assert lines.max() < 270


@pytest.fixture
def digits(tmp_path):
  """Returns a function that writes an .npz of images of a shape and returns the name of their scenes."""

  def write(shape, num_test=6):
    images = np.random.default_rng(0).integers(0, 256, (30, *shape), np.uint8)
    np.savez(tmp_path / "mine.npz", train=images, test=images[:num_test])
    return f"two_digits/{tmp_path / 'mine.npz'}"

  return write


def test_validation_and_test_are_fixed_scenes(digits):
  name = digits((5, 4))
  data = dataset.load_dataset(name, "dynamic")
  assert data.train.shape == (24, 5, 4, 1)
  assert data.validation.shape == data.test.shape == (6, CANVAS_SIZE, CANVAS_SIZE, 1)
  assert data.image_shape == data.mean_pixels().shape == (CANVAS_SIZE, CANVAS_SIZE, 1)
  assert set(np.unique(data.test)) == {0, 255}
  assert data.sha256 == dataset.load_dataset(name, "dynamic").sha256
  grey = dataset.load_dataset(name, "none")
  assert len(np.unique(grey.test)) > 2
  assert (data.test <= 255 * (grey.test > 0)).all()  # the same scenes, binarized
  assert (grey.test != grey.validation).any()
  scenes = grey.eval_splits(10)["train"]
  assert scenes.shape == (10, CANVAS_SIZE, CANVAS_SIZE, 1)
  assert scenes.sum(dtype=int) == pytest.approx(2 * grey.train[:10].sum(dtype=int), rel=0.02)  # overlaps are clipped


@pytest.mark.parametrize(
  ("shape", "num_test", "binarization", "message"),
  [
    ((61, 4), 6, "dynamic", "images of 61 x 4 pixels do not fit on a canvas of 60 x 60"),
    ((5, 4), 1, "dynamic", "needs two images in every split, but test has 1"),
    ((5, 4), 6, "static", "two_digits.* composes new ones in every step. Use dynamic"),
  ],
)
def test_unusable_images_are_refused(digits, shape, num_test, binarization, message):
  with pytest.raises(UsageError, match=message):
    dataset.load_dataset(digits(shape, num_test), binarization)


@pytest.mark.parametrize(
  ("name", "expected"),
  [("two_digits", "mnist"), ("two_digits/mnist_digits", "mnist_digits"), ("mnist", None), ("two_digits2", None)],
)
def test_base_dataset(name, expected):
  assert two_digits.base_dataset(name) == expected
