"""Positions and colors of tiles and windows in saved images."""

import matplotlib
import numpy as np
import pytest
from PIL import Image

from latentjax.models.draw.attention import Window
from latentjax.workdir import plots
from latentjax.workdir.protocol import Protocol

pytestmark = pytest.mark.usefixtures("full_size_figures")


def pixels(path) -> np.ndarray:
  with Image.open(path) as picture:
    return np.asarray(picture.convert("RGB"))


def tile(sheet: np.ndarray, row: int, column: int, size: int) -> np.ndarray:
  """One tile without its gray frame of one pixel."""
  top, left = row * (size + 2) + 1, column * (size + 2) + 1
  return sheet[top : top + size, left : left + size]


def test_grid_goes_row_by_row(tmp_path):
  shades = np.linspace(0, 1, 5)
  images = np.broadcast_to(shades[:, None, None, None], (5, 4, 4, 1))
  plots.save_grid(tmp_path / "grid.png", images, columns=3)
  sheet = pixels(tmp_path / "grid.png")
  assert sheet.shape == (2 * (plots.TILE_PIXELS + 2), 3 * (plots.TILE_PIXELS + 2), 3)
  for index, shade in enumerate(shades):
    assert (tile(sheet, *divmod(index, 3), plots.TILE_PIXELS) == round(255 * shade)).all()


def test_reconstructions_lie_below_their_images(tmp_path):
  images, reconstructions = np.zeros((3, 4, 4, 1)), np.ones((3, 4, 4, 1))
  plots.save_reconstructions(tmp_path / "pairs.png", images, reconstructions, columns=2)
  sheet = pixels(tmp_path / "pairs.png")
  for row, column in ((0, 0), (0, 1), (2, 0)):
    assert (tile(sheet, row, column, plots.TILE_PIXELS) == 0).all()
    assert (tile(sheet, row + 1, column, plots.TILE_PIXELS) == 255).all()
  assert sheet.shape == (4 * (plots.TILE_PIXELS + 2), 2 * (plots.TILE_PIXELS + 2), 3)
  assert (sheet[2 * (plots.TILE_PIXELS + 2) :, plots.TILE_PIXELS + 2 :] == 255).all()  # padding is white


def test_blocks_are_side_by_side(tmp_path):
  """The left half is black, the right half is white, under titles."""
  blocks = {"black": np.zeros((2, 2, 4, 4, 1)), "white": np.ones((2, 2, 4, 4, 1))}
  plots.save_blocks(tmp_path / "blocks.png", blocks)
  sheet = pixels(tmp_path / "blocks.png")
  height, width, _ = sheet.shape
  assert (sheet[height // 3, width // 6] == 0).all()
  assert (sheet[height // 3, 4 * width // 6] == 255).all()


@pytest.mark.parametrize(("rows", "columns", "red"), [(1, 3, (0, 2)), (4, 13, (2, 5))])
def test_a_traversal_has_its_rows_and_columns_in_place(tmp_path, rows, columns, red):
  """One red tile among blue ones, between labels."""
  images = np.broadcast_to(np.array([0.0, 0.0, 1.0]), (rows, columns, 6, 4, 3)).copy()
  images[red] = [1, 0, 0]
  plots.save_traversals(
    tmp_path / "rows.png", images, [f"z1, unit {row}\n0.50 nats" for row in range(rows)], range(columns)
  )
  sheet = pixels(tmp_path / "rows.png")
  reds, all_tiles = (sheet == (255, 0, 0)).all(-1), sheet.max(-1) - sheet.min(-1).astype(int) == 255
  for axis, (place, count) in enumerate(zip(red, (rows, columns), strict=True)):
    inside, outside = np.nonzero(reds)[axis], np.nonzero(all_tiles)[axis]
    where = (inside.mean() - outside.min()) / (outside.max() - outside.min())
    assert where == pytest.approx((place + 0.5) / count, abs=0.01)


def test_colour_stays_colour(tmp_path):
  red = np.zeros((1, 4, 4, 3))
  red[..., 0] = 1
  plots.save_grid(tmp_path / "red.png", red, columns=1)
  assert (tile(pixels(tmp_path / "red.png"), 0, 0, plots.TILE_PIXELS) == (255, 0, 0)).all()


@pytest.mark.parametrize("center_x", [13.0, 500.0, -1e12])
def test_window_is_drawn_where_it_lies(tmp_path, center_x):
  """Filters 2 px apart around (13, 10), N = 3: the frame runs through the middles of x = 11, 15 and y = 8, 12."""
  fields = {"center_x": center_x, "center_y": 10.0, "stride": 2.0, "variance": 1e-4, "intensity": 1.0}
  window = Window(**{name: np.full((2, 1), value) for name, value in fields.items()})
  plots.save_drawing(tmp_path / "drawing.gif", np.zeros((2, 1, 28, 28, 1)), window, write_size=3)
  shown = tile(pixels(tmp_path / "drawing.gif"), 0, 0, plots.TILE_PIXELS)
  coloured = np.argwhere((shown != 0).any(-1)) / 4 - 0.5  # four screen pixels to one of the image
  if center_x != 13.0:
    assert len(coloured) == 0
    return
  assert coloured.min(0) == pytest.approx([8, 11], abs=0.3)
  assert coloured.max(0) == pytest.approx([12, 15], abs=0.3)


def test_the_users_style_is_not_used(tmp_path):
  groups = {"vae": {"kl_per_group": [6.0, 3.0]}}
  plots.save_groups(tmp_path / "default.png", groups)
  with matplotlib.rc_context({"text.usetex": True, "savefig.dpi": 10, "axes.facecolor": "red"}):
    before = dict(matplotlib.rcParams)
    plots.save_groups(tmp_path / "own.png", groups)
    assert dict(matplotlib.rcParams) == before
  assert (tmp_path / "own.png").read_bytes() == (tmp_path / "default.png").read_bytes()


def test_unknown_numbers_are_gaps(tmp_path):
  """In each color a line of two epochs, and in the bars only the known group's."""
  terms = [dict.fromkeys(("elbo", "kl", "reconstruction"), value) for value in (None, 2.0, 1.0)]
  lines = [{"epoch": 1 + index, "train": terms[index], "validation": terms[index]} for index in range(3)]
  plots.save_curves(tmp_path / "curves.png", {Protocol("a", "dynamic", "bernoulli", 0): {"run": lines}}, ["epoch"])
  assert (pixels(tmp_path / "curves.png") == (0, 114, 178)).all(-1).sum() > 100
  plots.save_groups(tmp_path / "groups.png", {"vae": {"kl_per_group": [None, 3.0], "active_units": [0, 2]}})
  columns = np.nonzero((pixels(tmp_path / "groups.png") == (0, 114, 178)).all(-1))[1]
  assert columns.min() > pixels(tmp_path / "groups.png").shape[1] / 2
  plots.save_grid(tmp_path / "grid.png", np.full((1, 4, 4, 1), np.nan), columns=1)
  assert (tile(pixels(tmp_path / "grid.png"), 0, 0, plots.TILE_PIXELS) == 0).all()


def test_characters_that_the_font_lacks_are_escaped_without_a_warning(tmp_path):
  assert plots.escape_text("ünï 漢字 $x$") == r"ünï \u6f22\u5b57 \$x\$"
  plots.save_groups(tmp_path / "groups.png", {"漢字 🙂": {"kl_per_group": [6.0, 3.0]}})
