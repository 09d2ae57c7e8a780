"""report.html: a comparison of runs on one page without scripts that needs no network and no other file."""

import base64
import html
import re
import struct
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from latentjax.workdir.comparison import Comparison, comparison_table, describe_measurement, nll_curve_table
from latentjax.workdir.protocol import Protocol
from latentjax.workdir.run import Run

IMAGE_TITLES = {
  "samples.png": "Samples from the prior",
  "reconstructions.png": "Test images, each row with its reconstructions below",
  "drawing.gif": "Test images above, drawn again below; frames show the read and write windows",
  "dream.gif": "A drawing from the prior",
  "dream.png": "A drawing from the prior, step by step",
  "interpolations.png": "Interpolations between two test images in latent space",
  "traversals.png": "Latent traversals of a test image: a row per unit of large KL, from -3 to 3 in units of the prior",
  "layers.png": "Samples with the upper layers fixed",
}


def render(
  comparisons: Sequence[Comparison],
  runs: Sequence[Run],
  curves: Mapping[Protocol, Sequence[bytes]],
  groups: Mapping[str, bytes],
) -> str:
  """Returns the page's HTML, given PNGs: curves over epochs and over minutes, and evaluated runs' KL per group.

  A PNG without content is left out.
  """
  count = f"{len(runs)} runs" if len(runs) > 1 else "One run"
  names = [", ".join(row["name"] for row in group.rows) for group in comparisons]
  listed = "; ".join(f"{each} on {group.protocol.title}" for each, group in zip(names, comparisons, strict=True))
  lead = f"{count}: {listed}. {describe_measurement(comparisons)}"
  if len(comparisons) > 1:
    lead += " Runs with other data, binarization or likelihood have separate tables, since they are not comparable."
  bars = [_figure(png, f"{name}: bars of the KL per latent group", name, "plot") for name, png in groups.items() if png]
  note = '<p class="note">A group is a layer or, for DRAW, a step. A group with a bar near 0 is not used.</p>'
  template, style = (
    (files(__package__) / f"report.{suffix}").read_text(encoding="utf-8") for suffix in ("html", "css")
  )
  parts = {
    "names": html.escape(", ".join(run.name for run in runs)),
    "style": style,
    "lead": html.escape(lead),
    "tables": "\n".join(_comparison_section(group, curves[group.protocol]) for group in comparisons),
    "images": _image_section(runs),
    "groups": f"<h2>KL per latent group</h2>\n{note}\n{_grid(bars)}" if bars else "",
  }
  return re.sub(r"@@(\w+)@@", lambda match: parts[match[1]], template)


def _comparison_section(comparison: Comparison, curves: Sequence[bytes]) -> str:
  terms = ", ".join(comparison.protocol.metric_names.terms.values())
  plots = [
    _figure(png, f"Curves of {terms} over {axis}", f"Over {axis}", "plot")
    for axis, png in zip(("epochs", "minutes of training"), curves, strict=True)
    if png
  ]
  nll_curves = nll_curve_table(comparison)
  tables = [comparison_table(comparison).to_html(), *([nll_curves.to_html("h3")] if nll_curves else [])]
  return "\n".join([*tables, "<h3>Curves</h3>", _grid(plots, "curves")])


def _image_section(runs: Sequence[Run]) -> str:
  """Returns every kind of image that some run has, the runs side by side."""
  sections = []
  for file, title in IMAGE_TITLES.items():
    figures = [
      _figure(image, f"{run.name}: {title.lower()}", run.name, "image", note=run.model)
      for run in runs
      if (image := _read_image(run.workdir / file))
    ]
    if figures:
      sections.append(f"<h3>{html.escape(title)}</h3>\n{_grid(figures)}")
  return "\n".join(["<h2>Images</h2>", *sections]) if sections else ""


def _read_image(path: Path) -> bytes:
  """Returns the bytes of a PNG or GIF, or none if it is missing or still being written."""
  content = path.read_bytes() if path.is_file() else b""
  whole = content.startswith((b"\x89PNG\r\n\x1a\n", b"GIF8")) and content.endswith((b"IEND\xaeB`\x82", b"\x3b"))
  return content if whole else b""


def _figure(content: bytes, alt: str, caption: str, kind: str, note: str = "") -> str:
  """Returns an image, embedded whole, with its caption."""
  is_png = content.startswith(b"\x89PNG")
  width, height = struct.unpack_from(">II", content, 16) if is_png else struct.unpack_from("<HH", content, 6)
  kind += " wide" if width > 2.5 * height else ""
  source = f"data:image/{'png' if is_png else 'gif'};base64,{base64.b64encode(content).decode()}"
  return (
    f'<figure class="{kind}">'
    f'<img loading="lazy" width="{width}" height="{height}" alt="{html.escape(alt)}" src="{source}">'
    f"<figcaption>{html.escape(caption)} <small>{html.escape(note)}</small></figcaption></figure>"
  )


def _grid(items: Sequence[str], kind: str = "") -> str:
  return f'<div class="grid {kind}">\n' + "\n".join(items) + "\n</div>"
