"""Pictures of a trained model: traversals, interpolations and drawings show what they say."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest
from PIL import Image

from latentjax.inference import pictures
from latentjax.models.base import DrawingAnimation
from latentjax.models.draw.attention import Window
from latentjax.workdir import plots

KL = [np.array([[0.2, 5.0], [0.4, 3.0]]), np.array([[1.0, 0.0, 2.0], [1.0, 0.0, 2.5]])]  # of two images
MEANS = [np.array([[0.1, 0.2], [7.0, 7.0]]), np.array([[0.3, 0.4, 0.5], [7.0, 7.0, 7.0]])]


def test_the_units_of_the_largest_kl_go_from_minus_3_to_3_and_all_else_stays(monkeypatch):
  """With a decoder that shows the latents themselves, as an image of 1 x 5 pixels."""
  monkeypatch.setattr(pictures, "NUM_TRAVERSED_UNITS", 3)
  inference = SimpleNamespace(
    kl_per_unit=lambda variables, images, key: KL,
    encode=lambda variables, images: [means[: len(images)] for means in MEANS],
    decode=lambda variables, latents: np.concatenate(latents, axis=1)[:, None, :, None],
  )
  keys = SimpleNamespace(evaluate=jax.random.key(0))
  trained = SimpleNamespace(inference=inference, variables=None, keys=keys)
  images, titles = pictures.traverse(trained, np.zeros((2, 1, 5, 1)))
  assert titles == ["z1, unit 2\n4.00 nats", "z2, unit 3\n2.25 nats", "z2, unit 1\n1.00 nats"]
  assert images.shape == (3, len(pictures.TRAVERSAL_VALUES), 1, 5, 1)
  for row, unit in zip(images[:, :, 0, :, 0], (1, 4, 2), strict=True):
    np.testing.assert_array_equal(row[:, unit], np.linspace(-3, 3, 13))
    held = np.delete(row, unit, axis=1)
    np.testing.assert_allclose(held, np.tile(np.delete([0.1, 0.2, 0.3, 0.4, 0.5], unit), (13, 1)), rtol=1e-6)


def test_a_way_leads_from_one_image_to_the_next():
  """With a decoder that shows a latent, the image's mean, in every pixel."""
  inference = SimpleNamespace(
    encode=lambda variables, images: [images.reshape(len(images), -1)[:, :1] / 255],
    decode=lambda variables, latents: np.broadcast_to(latents[0][:, :, None, None], (len(latents[0]), 2, 2, 1)),
  )
  shades = np.array([0, 255, 255, 51, 102], np.uint8)
  images = np.broadcast_to(shades[:, None, None, None], (5, 2, 2, 1))
  ways = pictures.interpolate(SimpleNamespace(inference=inference, variables=None), images)
  assert ways.shape == (2, pictures.INTERPOLATION_STEPS + 2, 2, 2, 1)
  for way, (start, end) in zip(ways[:, :, 0, 0, 0], ((0, 1), (1, 0.2)), strict=True):
    np.testing.assert_allclose(way, [start, *np.linspace(start, end, pictures.INTERPOLATION_STEPS), end], atol=1e-6)


def test_a_drawing_reads_above_and_writes_below(tmp_path):
  """Frames of 3 filters 2 px apart around x = 6, and of 5 around x = 18."""
  fields = {"center_y": 10.0, "stride": 2.0, "variance": 1e-4, "intensity": 1.0}
  read, write = (
    Window(**{name: np.full((2, 1), value) for name, value in (fields | {"center_x": x}).items()}) for x in (6.0, 18.0)
  )
  picture = DrawingAnimation(
    np.zeros((2, 1, 28, 28, 1)), np.zeros((1, 28, 28, 1)), read, write, read_size=3, write_size=5
  )
  save, *args = pictures.plot_call(picture)
  save(tmp_path / "drawing.gif", *args)
  with Image.open(tmp_path / "drawing.gif") as frames:
    sheet = np.asarray(frames.convert("RGB"))
  halves = np.split(sheet, 2)
  for half, colour, ends in zip(halves, (plots.READ, plots.WRITE), ((4, 8), (14, 22)), strict=True):
    columns = np.argwhere((half == colour).all(-1))[:, 1]
    assert (columns.min(), columns.max()) == pytest.approx((4 * ends[0] + 3, 4 * ends[1] + 3), abs=2)
