"""Pictures of a run: numpy in, PNG and GIF out.

Shapes: M images, T steps, H W C image. Pixels in [0, 1].
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import matplotlib
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ticker import MaxNLocator
from PIL import Image, ImageDraw

from latentjax.workdir.protocol import TERMS

matplotlib.use("Agg")  # draws into files, also where there is no screen


COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # Okabe and Ito's

TILE_PIXELS = 112  # pixels on the screen that one image aims at

READ, WRITE = (0, 158, 115), (213, 94, 0)  # green and vermilion, told apart by the colour-blind too


def save_loss(path: Path, lines: Sequence[Mapping[str, Any]], terms: Mapping[str, str]) -> None:
  """ELBO, KL and reconstruction over epochs, training and validation in one panel each.

  Args:
    lines: of metrics.jsonl, at least one.
    terms: what the three are called.
  """
  epochs = [line["epoch"] for line in lines]
  figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
  for axis, (name, title) in zip(axes, terms.items(), strict=True):
    for split, label in {"train": "training, during the epoch", "validation": "validation, at its end"}.items():
      axis.plot(epochs, [line[split][name] for line in lines], label=label, marker="." if len(epochs) < 3 else None)
    axis.set(title=title, xlabel="epoch", ylabel="nats per image")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(alpha=0.3)
    later = [line[split][name] for line in lines[len(lines) // 10 :] for split in ("train", "validation")]
    set_limits(axis, later)
  axes[0].legend()
  figure.savefig(path, dpi=120)
  plt.close(figure)


def save_comparison(
  file: Path | BinaryIO,
  groups: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]],
  over: Sequence[str],
  terms: Mapping[str, Mapping[str, str]],
) -> None:
  """ELBO, KL and reconstruction of several runs: validation as a line, training fainter.

  Args:
    groups: title -> the runs that may share an axis, name -> lines of metrics.jsonl.
    over: "epoch", "minutes" or both; a column of panels each.
    terms: what the three are called, by title.
  """
  height = 7.8 + 0.22 * max(map(len, groups.values())) / len(over)
  figure = plt.figure(figsize=(5.2 * len(over), height * len(groups)), layout="constrained")
  parts = figure.subfigures(len(groups), 1, squeeze=False)[:, 0]
  for part, (title, runs) in zip(parts, groups.items(), strict=True):
    axes = part.subplots(len(TERMS), len(over), squeeze=False, sharex="col", sharey="row")
    for axis, (term, label) in zip(axes, terms[title].items(), strict=True):
      later = []
      for index, lines in enumerate(runs.values()):
        plot_run(axis, over, lines, term, COLORS[index % len(COLORS)])
        later += [line[split][term] for line in lines[len(lines) // 10 :] for split in ("train", "validation")]
      if later:
        set_limits(axis[0], later)
      axis[0].set_ylabel(f"{label}, nats per image")
    for panel, name in zip(axes[-1], over, strict=True):
      panel.set_xlabel({"epoch": "epoch", "minutes": "minutes of training"}[name])
    handles = [plt.Line2D([], [], color=COLORS[index % len(COLORS)]) for index in range(len(runs))]
    heading = f"{escape_text(title)}\nvalidation; fainter: training"
    part.legend(
      handles, [escape_text(name) for name in runs], title=heading, loc="outside upper center", ncols=len(over)
    )
  figure.savefig(file, dpi=150, format="png")
  plt.close(figure)


def plot_run(axes: Sequence[Any], over: Sequence[str], lines: Sequence[Mapping], term: str, colour: str) -> None:
  """One run's curves of a term in every panel of a row."""
  for axis, name in zip(axes, over, strict=True):
    places = [line["seconds"] / 60 if name == "minutes" else line["epoch"] for line in lines]
    for split, alpha in (("train", 0.35), ("validation", 1.0)):
      marker, order = "." if len(lines) < 3 else None, 2 + 1 / (1 + len(lines))  # the shorter run lies on top
      axis.plot(places, [line[split][term] for line in lines], color=colour, alpha=alpha, marker=marker, zorder=order)
    axis.grid(alpha=0.3)


def save_groups(file: Path | BinaryIO, runs: Mapping[str, Mapping[str, Any]]) -> None:
  """KL of every latent group (layer or step) as bars, with the number of its active units where that is known.

  Args:
    runs: name -> `kl_per_group` [L] in nats and, optionally, `active_units` [L], means where a run has several seeds;
      at least one run.
  """
  figure, axes = plt.subplots(len(runs), 1, figsize=(5.2, 2.6 * len(runs)), layout="constrained", squeeze=False)
  for axis, (name, groups) in zip(axes[:, 0], runs.items(), strict=True):
    kl, active = groups["kl_per_group"], groups.get("active_units")
    bars = axis.bar(range(1, len(kl) + 1), kl, width=min(0.8, 0.12 * len(kl) + 0.1), color=COLORS[0])
    if len(kl) <= 20:
      labels = [f"{value:.1f}" for value in kl]
      if active:
        labels = [f"{label}\n({round(units, 1):g})" for label, units in zip(labels, active, strict=True)]
      axis.bar_label(bars, labels, fontsize="x-small", padding=2)
      axis.set_xticks(range(1, len(kl) + 1))
    axis.margins(y=0.25 if active else 0.15)
    axis.set(
      title=escape_text(name),
      xlabel=f"layer or step{', in brackets its active units' if active else ''}",
      ylabel="KL, nats per image",
    )
    axis.set_xlim(0.3, len(kl) + 0.7)
    axis.grid(axis="y", alpha=0.3)
    axis.set_axisbelow(True)
  figure.savefig(file, dpi=150, format="png")
  plt.close(figure)


def set_limits(axis: Any, later: Sequence[float]) -> None:
  """Limits an axis to the values past the first tenth of a run: the first epochs would hide the rest."""
  margin = 0.05 * (max(later) - min(later)) or 1.0
  axis.set_ylim(min(later) - margin, max(later) + margin)


def escape_text(name: str) -> str:
  """A name without meaning to Matplotlib, which reads formulas between dollars; a letter its font lacks as its code."""
  drawn = get_font(findfont(FontProperties())).get_charmap()
  letters = [letter if ord(letter) in drawn else ascii(letter)[1:-1] for letter in name]
  return "".join(letters).replace("$", r"\$")


def save_grid(file: Path | BinaryIO, images: np.ndarray, columns: int) -> None:
  """Images [M, H, W, C] row by row on one sheet."""
  Image.fromarray(to_sheet(images, columns)).save(file, format="PNG")


def save_reconstructions(file: Path | BinaryIO, images: np.ndarray, reconstructions: np.ndarray, columns: int) -> None:
  """Every row of images [M, H, W, C] with its reconstructions right below."""
  pairs, starts = (to_tiles(images), to_tiles(reconstructions)), range(0, len(images), columns)
  rows = [sheet_row(tiles[start : start + columns], columns) for start in starts for tiles in pairs]
  Image.fromarray(np.concatenate(rows, axis=0)).save(file, format="PNG")


def save_blocks(path: Path, blocks: Mapping[str, np.ndarray]) -> None:
  """Square sheets of images [R, R, H, W, C] side by side, each under its title."""
  figure, axes = plt.subplots(1, len(blocks), figsize=(3.4 * len(blocks), 3.7), layout="constrained", squeeze=False)
  for axis, (title, images) in zip(axes[0], blocks.items(), strict=True):
    axis.imshow(to_sheet(images.reshape(-1, *images.shape[2:]), len(images)), interpolation="none")
    axis.set_title(title)
    axis.set_axis_off()
  figure.savefig(path, dpi=200)
  plt.close(figure)


def save_traversals(path: Path, images: np.ndarray, rows: Sequence[str], columns: Sequence[float]) -> None:
  """Rows of images [R, S, H, W, C], each under what its rows are called, and above the values of its columns."""
  sheet = to_sheet(images.reshape(-1, *images.shape[2:]), len(columns))
  height, width = (size / count for size, count in zip(sheet.shape, images.shape[:2], strict=False))
  figure, axis = plt.subplots(
    figsize=(0.6 * len(columns) + 1.4, 0.6 * len(rows) * height / width + 0.6), layout="constrained"
  )
  axis.imshow(sheet, interpolation="none")
  axis.set_yticks((np.arange(len(rows)) + 0.5) * height, rows, fontsize="x-small")
  axis.set_xticks((np.arange(len(columns)) + 0.5) * width, [f"{value:g}" for value in columns], fontsize="x-small")
  axis.set_xlabel("units of the prior", fontsize="x-small")
  axis.tick_params(length=0)
  axis.spines[:].set_visible(False)
  figure.savefig(path, dpi=200)
  plt.close(figure)


def save_drawing(
  path: Path,
  canvases: np.ndarray,
  write: Any | None,
  images: np.ndarray | None = None,
  read: Any | None = None,
  write_size: int = 1,
  read_size: int = 1,
) -> None:
  """An animation of a drawing: canvases below, the images they are drawn from above.

  Args:
    canvases: [T, M, H, W, C].
    images: [M, H, W, C] what is read, or None for a drawing from the prior.
    read, write: windows with fields [T, M] in pixels of the image, or None where there is no attention. A
      window's frame spans the outermost filters' centres; its line is one standard deviation wide.
    read_size, write_size: N of the windows.
  """
  frames = []
  for time, canvas in enumerate(canvases):
    below = frame_row(canvas, write, time, write_size, WRITE)
    above = [] if images is None else [frame_row(images, read, time, read_size, READ)]
    frames.append(Image.fromarray(np.concatenate([*above, below], axis=0)))
  pause = [max(60, 2000 // len(frames))] * (len(frames) - 1) + [1500]
  frames[0].save(path, save_all=True, append_images=frames[1:], duration=pause, loop=0)


def frame_row(
  images: np.ndarray, windows: Any | None, time: int, size: int, colour: tuple[int, int, int]
) -> np.ndarray:
  """One row of images [M, H, W, C] with their windows of one time drawn in."""
  tiles = to_tiles(images)
  if windows is None:
    return sheet_row(tiles, len(tiles))
  scale = tile_scale(images)
  framed = []
  for index, tile in enumerate(tiles):
    picture = Image.fromarray(tile)
    reach = 0.5 * (size - 1) * windows.stride[time, index]
    centre = np.array([windows.center_x[time, index], windows.center_y[time, index]])
    far = 4 * tile.shape[0]  # a window may lie anywhere; a drawing far off the tile is invisible either way
    corners = np.clip(np.stack([centre - reach, centre + reach]) * scale + scale / 2, -far, far)
    line = round(float(np.clip(scale * np.sqrt(windows.variance[time, index]), 1, 2 * scale)))
    ImageDraw.Draw(picture).rectangle([*corners[0], *corners[1]], outline=colour, width=line)
    framed.append(np.asarray(picture))
  return sheet_row(framed, len(framed))


def to_sheet(images: np.ndarray, columns: int) -> np.ndarray:
  """RGB uint8 sheet of images [M, H, W, C] row by row."""
  tiles = to_tiles(images)
  rows = [sheet_row(tiles[start : start + columns], columns) for start in range(0, len(tiles), columns)]
  return np.concatenate(rows, axis=0)


def to_tiles(images: np.ndarray) -> list[np.ndarray]:
  """RGB uint8 tiles of images [M, H, W, C], enlarged by whole pixels."""
  colour = images if images.shape[-1] == 3 else np.repeat(images[..., :1], 3, axis=-1)
  scale = tile_scale(images)
  pixels = np.rint(255 * np.clip(colour, 0, 1)).astype(np.uint8)
  return list(pixels.repeat(scale, axis=1).repeat(scale, axis=2))


def tile_scale(images: np.ndarray) -> int:
  return max(1, TILE_PIXELS // images.shape[-3])


def sheet_row(tiles: Sequence[np.ndarray], columns: int) -> np.ndarray:
  """Tiles side by side with a grey line between, filled up with white to `columns`."""
  framed = [np.pad(tile, [(1, 1), (1, 1), (0, 0)], constant_values=128) for tile in tiles]
  framed += [np.full_like(framed[0], 255)] * (columns - len(framed))
  return np.concatenate(framed, axis=1)
