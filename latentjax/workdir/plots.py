"""Plots and images of a run: NumPy in, PNG and GIF out.

Plots are drawn without pyplot and in Matplotlib's default style, so that they depend neither on the user's backend nor
on a matplotlibrc. Shapes: M images, T steps, H W C image. Pixels in [0, 1].
"""

import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image, ImageDraw

from latentjax.runtime.console import console
from latentjax.runtime.errors import error_reason
from latentjax.workdir.protocol import TERMS, MetricsRow, Protocol

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # the palette of Okabe and Ito
TILE_PIXELS = 112  # target size of one image
READ, WRITE = (0, 158, 115), (213, 94, 0)  # green and vermilion, distinct for the color-blind too


def save(path: Path, draw: Callable, *args: Any) -> bool:
  """Draws a picture into a file and prints its path; returns False, after one printed line, if that fails."""
  if attempt(str(path), draw, path, *args):
    console.print(f"  {path}")
    return True
  with suppress(OSError):
    path.unlink()  # half a picture, or one of earlier weights
  return False


def attempt(name: str, draw: Callable, *args: Any) -> bool:
  """Calls a function of this module; if it fails, prints one line and returns False, so that the run continues."""
  try:
    draw(*args)
    return True
  except Exception as error:  # of many kinds
    console.print(f"Cannot draw {name} ({error_reason(error)}).")
    return False


def png(name: str, draw: Callable, *args: Any) -> bytes:
  """Returns a picture as PNG; empty, after one printed line, if it cannot be drawn."""
  file = io.BytesIO()
  return file.getvalue() if attempt(name, draw, file, *args) else b""


@style.context("default")
def save_curves(
  file: Path | BinaryIO, groups: Mapping[Protocol, Mapping[str, Sequence[MetricsRow]]], x_axes: Sequence[str]
) -> None:
  """Plots ELBO, KL and reconstruction of each protocol's runs, which are lines of metrics.jsonl by name.

  Validation, and training fainter; a column of panels for each of `x_axes`: "epoch", "minutes" or both.
  """
  height = 7.8 + 0.22 * max(map(len, groups.values())) / len(x_axes)
  figure = Figure(figsize=(5.2 * len(x_axes), height * len(groups)), layout="constrained")
  subfigures = figure.subfigures(len(groups), 1, squeeze=False)[:, 0]
  for subfigure, (protocol, runs) in zip(subfigures, groups.items(), strict=True):
    axes = subfigure.subplots(len(TERMS), len(x_axes), squeeze=False, sharex="col", sharey="row")
    for row, (term, label) in zip(axes, protocol.metric_names.terms.items(), strict=True):
      later = []  # values after the first tenth of a run, which would hide the rest
      for index, lines in enumerate(runs.values()):
        _plot_run(row, x_axes, lines, term, COLORS[index % len(COLORS)])
        later += [line[split][term] for line in lines[len(lines) // 10 :] for split in ("train", "validation")]
      later = [value for value in later if value is not None]
      if later:
        margin = 0.05 * (max(later) - min(later)) or 1.0
        row[0].set_ylim(min(later) - margin, max(later) + margin)
      row[0].set_ylabel(f"{label}, nats per image")
    for axis, name in zip(axes[-1], x_axes, strict=True):
      axis.set_xlabel({"epoch": "epoch", "minutes": "minutes of training"}[name])
      if name == "epoch":
        axis.xaxis.get_major_locator().set_params(integer=True)
    handles = [Line2D([], [], color=COLORS[index % len(COLORS)]) for index in range(len(runs))]
    heading = f"{escape_text(protocol.title)}\nvalidation; fainter: training"
    names = [escape_text(name) for name in runs]
    subfigure.legend(handles, names, title=heading, loc="outside upper center", ncols=len(x_axes))
  figure.savefig(file, dpi=150, format="png")


def _plot_run(axes: Sequence[Any], x_axes: Sequence[str], lines: Sequence[MetricsRow], term: str, color: str) -> None:
  for axis, name in zip(axes, x_axes, strict=True):
    x = [line["seconds"] / 60 if name == "minutes" else line["epoch"] for line in lines]
    for split, alpha in (("train", 0.35), ("validation", 1.0)):
      marker, order = "." if len(lines) < 3 else None, 2 + 1 / (1 + len(lines))  # the shorter run on top
      y = np.array([line[split][term] for line in lines], float)  # NaN for None
      axis.plot(x, y, color=color, alpha=alpha, marker=marker, zorder=order)
    axis.grid(alpha=0.3)


@style.context("default")
def save_groups(file: Path | BinaryIO, runs: Mapping[str, Mapping[str, Any]]) -> None:
  """Plots the KL of every latent group (layer or step) as bars, labeled with its number of active units if known.

  A run has `kl_per_group` [L] in nats and, optionally, `active_units` [L], means over seeds.
  """
  figure = Figure(figsize=(5.2, 2.6 * len(runs)), layout="constrained")
  axes = figure.subplots(len(runs), 1, squeeze=False)
  for axis, (name, groups) in zip(axes[:, 0], runs.items(), strict=True):
    kl, active = np.array(groups["kl_per_group"], float), groups.get("active_units")  # NaN for None
    bars = axis.bar(range(1, len(kl) + 1), np.nan_to_num(kl), width=min(0.8, 0.12 * len(kl) + 0.1), color=COLORS[0])
    if len(kl) <= 20:
      labels = [f"{value:.1f}" for value in kl]
      if active:
        labels = [f"{label}\n({round(units, 1):g})" for label, units in zip(labels, active, strict=True)]
      axis.bar_label(bars, labels, fontsize="x-small", padding=2)
      axis.set_xticks(range(1, len(kl) + 1))
    axis.margins(y=0.25 if active else 0.15)
    axis.set(title=escape_text(name), ylabel="KL, nats per image", xlim=(0.3, len(kl) + 0.7))
    axis.set_xlabel(f"layer or step{', in brackets its active units' if active else ''}")
    axis.grid(axis="y", alpha=0.3)
    axis.set_axisbelow(True)
  figure.savefig(file, dpi=150, format="png")


def escape_text(name: str) -> str:
  """Escapes characters that Matplotlib's font may lack, and dollars, which delimit formulas."""
  return name.encode("latin-1", "backslashreplace").decode("latin-1").replace("$", r"\$")


def save_grid(file: Path | BinaryIO, images: np.ndarray, columns: int) -> None:
  """Saves images [M, H, W, C] row by row on one sheet."""
  Image.fromarray(_to_sheet(_to_tiles(images), columns)).save(file, format="PNG")


def save_reconstructions(file: Path | BinaryIO, images: np.ndarray, reconstructions: np.ndarray, columns: int) -> None:
  """Saves every row of images [M, H, W, C] with its reconstructions below."""
  pairs, starts = (_to_tiles(images), _to_tiles(reconstructions)), range(0, len(images), columns)
  rows = [_to_sheet(tiles[start : start + columns], columns) for start in starts for tiles in pairs]
  Image.fromarray(np.concatenate(rows)).save(file, format="PNG")


@style.context("default")
def save_blocks(path: Path, blocks: Mapping[str, np.ndarray]) -> None:
  """Saves square sheets of images [R, R, H, W, C] side by side, each under its title."""
  figure = Figure(figsize=(3.4 * len(blocks), 3.7), layout="constrained")
  axes = figure.subplots(1, len(blocks), squeeze=False)
  for axis, (title, images) in zip(axes[0], blocks.items(), strict=True):
    axis.imshow(_to_sheet(_to_tiles(images.reshape(-1, *images.shape[2:])), len(images)), interpolation="none")
    axis.set_title(title)
    axis.set_axis_off()
  figure.savefig(path, dpi=200)


@style.context("default")
def save_traversals(path: Path, images: np.ndarray, rows: Sequence[str], columns: Sequence[float]) -> None:
  """Saves images [R, S, H, W, C] on one sheet with the names of its rows and the values of its columns."""
  sheet = _to_sheet(_to_tiles(images.reshape(-1, *images.shape[2:])), len(columns))
  height, width = (size / count for size, count in zip(sheet.shape, images.shape[:2], strict=False))
  size = (0.6 * len(columns) + 1.4, 0.6 * len(rows) * height / width + 0.6)
  figure = Figure(figsize=size, layout="constrained")
  axis = figure.subplots()
  axis.imshow(sheet, interpolation="none")
  axis.set_yticks((np.arange(len(rows)) + 0.5) * height, rows, fontsize="x-small")
  axis.set_xticks((np.arange(len(columns)) + 0.5) * width, [f"{value:g}" for value in columns], fontsize="x-small")
  axis.set_xlabel("units of the prior", fontsize="x-small")
  axis.tick_params(length=0)
  axis.spines[:].set_visible(False)
  figure.savefig(path, dpi=200)


def save_drawing(
  path: Path,
  canvases: np.ndarray,
  write: Any | None,
  images: np.ndarray | None = None,
  read: Any | None = None,
  write_size: int = 1,
  read_size: int = 1,
) -> None:
  """Saves an animation: canvases [T, M, H, W, C], below the images [M, H, W, C], if any, that they are drawn from.

  The frame of a window, with fields [T, M] in pixels, spans the centers of its outermost filters, N = its size; its
  line is one standard deviation wide. Windows are None without attention.
  """
  frames = []
  for time, canvas in enumerate(canvases):
    rows = [] if images is None else [_frame_tiles(images, read, time, read_size, READ)]
    rows.append(_frame_tiles(canvas, write, time, write_size, WRITE))
    frames.append(Image.fromarray(np.concatenate([_to_sheet(tiles, len(tiles)) for tiles in rows])))
  pause = [max(60, 2000 // len(frames))] * (len(frames) - 1) + [1500]
  frames[0].save(path, save_all=True, append_images=frames[1:], duration=pause, loop=0)


def _frame_tiles(
  images: np.ndarray, windows: Any | None, time: int, size: int, color: tuple[int, int, int]
) -> list[np.ndarray]:
  """Returns tiles of images [M, H, W, C] with their windows of one step."""
  tiles, scale = _to_tiles(images), _tile_scale(images)
  for index, tile in enumerate(tiles if windows is not None else ()):
    picture = Image.fromarray(tile)
    reach = 0.5 * (size - 1) * windows.stride[time, index]
    center = np.array([windows.center_x[time, index], windows.center_y[time, index]])
    far = 4 * tile.shape[0]  # a window may lie anywhere; farther from the tile it is invisible anyway
    corners = np.clip(np.stack([center - reach, center + reach]) * scale + scale / 2, -far, far)
    line = round(float(np.clip(scale * np.sqrt(windows.variance[time, index]), 1, 2 * scale)))
    ImageDraw.Draw(picture).rectangle([*corners[0], *corners[1]], outline=color, width=line)
    tiles[index] = np.asarray(picture)
  return tiles


def _to_tiles(images: np.ndarray) -> list[np.ndarray]:
  """Returns RGB uint8 tiles of images [M, H, W, C], enlarged by whole pixels."""
  rgb = images if images.shape[-1] == 3 else np.repeat(images[..., :1], 3, axis=-1)
  pixels = np.rint(255 * np.clip(np.nan_to_num(rgb), 0, 1)).astype(np.uint8)
  return list(pixels.repeat(_tile_scale(images), axis=1).repeat(_tile_scale(images), axis=2))


def _tile_scale(images: np.ndarray) -> int:
  return max(1, TILE_PIXELS // images.shape[-3])


def _to_sheet(tiles: Sequence[np.ndarray], columns: int) -> np.ndarray:
  """Returns tiles row by row, framed by gray lines; the last row is padded with white."""
  framed = [np.pad(tile, [(1, 1), (1, 1), (0, 0)], constant_values=128) for tile in tiles]
  framed += [np.full_like(framed[0], 255)] * (-len(framed) % columns)
  rows = [np.concatenate(framed[start : start + columns], axis=1) for start in range(0, len(framed), columns)]
  return np.concatenate(rows)
