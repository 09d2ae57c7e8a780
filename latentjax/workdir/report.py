"""report.html: a comparison on one page that needs no network, no script and no other file."""

import base64
import html
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from latentjax.workdir import comparison
from latentjax.workdir.comparison import Table
from latentjax.workdir.protocol import SPLITS, TERMS, MetricsRow
from latentjax.workdir.run_summary import Run
from latentjax.workdir.tables import number, with_spread

PICTURE_TITLES = {
  "samples.png": "Samples from the prior",
  "reconstructions.png": "Test images, each row with its reconstructions below",
  "drawing.gif": "Test images above, drawn again below; frames show where it reads and writes",
  "dream.gif": "A drawing from the prior",
  "dream.png": "A drawing from the prior, step by step",
  "interpolations.png": "From one test image to another through the latents",
  "traversals.png": "A test image's latents, one unit of large KL a row from -3 to 3 in units of the prior",
  "layers.png": "Samples with the upper layers fixed",
}

STYLE = """
:root { color-scheme: light dark; --page: #fbfbfa; --ink: #1d1d1f; --soft: #62626a; --line: #dcdce0; --band: #f0f0f3;
  --mark: #8a4b00; }
@media (prefers-color-scheme: dark) {
  :root { --page: #17171a; --ink: #e8e8ea; --soft: #a2a2ab; --line: #37373d; --band: #212126; --mark: #f0b267; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 82rem; background: var(--page); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 1rem; }
h2 { font-size: 1.3rem; margin: 3rem 0 0.75rem; padding-top: 1rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 2rem 0 0.5rem; }
p { max-width: 46rem; margin: 0 0 0.75rem; }
.note { color: var(--soft); font-size: 0.875rem; margin: 0.5rem 0; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 8px; margin: 0.75rem 0; }
table { border-collapse: collapse; width: 100%; font-size: 0.8125rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.45rem 0.5rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line);
  vertical-align: top; }
tr:last-child > * { border-bottom: 0; }
thead th { color: var(--soft); font-weight: 500; background: var(--band); }
thead th[colspan] { text-align: center; color: var(--ink); }
.first { border-left: 1px solid var(--line); }
tbody th, .name { position: sticky; left: 0; text-align: left; background: var(--band); min-width: 7rem;
  max-width: 11rem; white-space: normal; }
tbody th { font-weight: 600; }
th small { display: block; font-weight: 400; color: var(--soft); }
th .status { color: var(--mark); }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); gap: 1.25rem; }
.curves { grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); }
figure { margin: 0; min-width: 0; }
figcaption { font-size: 0.875rem; margin-top: 0.35rem; }
figcaption small { color: var(--soft); }
img { display: block; max-width: 100%; height: auto; border-radius: 6px; }
.picture img { width: 100%; image-rendering: pixelated; }
.wide { grid-column: 1 / -1; }
.plot img { background: #fff; padding: 0.5rem; border: 1px solid var(--line); }
"""


def render(
  tables: Sequence[Table], runs: Sequence[Run], curves: Mapping[str, Sequence[bytes]], groups: Mapping[str, bytes]
) -> str:
  """The page's HTML.

  Args:
    curves: title of a table -> PNGs of its runs' curves.
    groups: name of a run -> PNG of its KL per latent group, for those that have been evaluated.
  """
  several = f"{len(runs)} runs" if len(runs) > 1 else "One run"
  where = "; ".join(f"{', '.join(row['name'] for row in table.rows)} on {table.title}" for table in tables)
  lead = f"{several}: {where}. {comparison.protocol(tables)}"
  if len(tables) > 1:
    lead += (
      " Runs on other data, with another binarisation or likelihood, stand in tables of their own: they do not compare."
    )
  body = [f"<h1>Comparison</h1>\n<p>{escape(lead)}</p>"]
  body += [section(table, curves[table.title]) for table in tables]
  body.append(pictures(runs))
  if groups:
    shown = [
      figure(png, f"{name}: bars of the KL per latent group", escape(name), "plot") for name, png in groups.items()
    ]
    caption = "A group is a layer or, for DRAW, a glimpse in its order. Where a bar is near 0, the group is not used."
    body.append(f'<h2>KL per latent group</h2>\n<p class="note">{caption}</p>\n{grid(shown)}')
  policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
  return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>Comparison of {escape(", ".join(run.name for run in runs))}</title>
<style>{STYLE}</style>
</head>
<body>
{chr(10).join(body)}
</body>
</html>
"""


def section(table: Table, curves: Sequence[bytes]) -> str:
  """A protocol's table, notes and curves."""
  notes = "\n".join(f'<p class="note">{escape(note)}</p>' for note in table.notes)
  names, terms = ", ".join(row["name"] for row in table.rows), ", ".join(table.metric_names.terms.values())
  shown = [
    figure(png, f"Curves of {terms} over {over} for {names}", f"Over {over}", "plot")
    for over, png in zip(("epochs", "minutes of training"), curves, strict=True)
  ]
  return f"""<h2>{escape(table.title)}</h2>
<div class="scroll" role="region" aria-label="Results on {escape(table.title)}" tabindex="0">
{results_table(table)}
</div>
{notes}
{likelihood_curves(table)}<h3>Curves</h3>
{grid(shown, "curves")}"""


def results_table(table: Table) -> str:
  """All figures of a protocol, test first."""
  heads, spans = [], ['<th class="name" rowspan="2" scope="col">run</th>']
  terms = [name.replace("reconstruction", "reconstr.") for name in table.metric_names.terms.values()]
  for split in SPLITS[::-1]:
    names = [*terms, *(table.test_names[1:] if split == "test" else [])]
    spans.append(f'<th class="first" colspan="{len(names)}" scope="colgroup">{split}</th>')
    heads.append(cells(names, "th"))
  rows = [results_row(row, table) for row in table.rows]
  return f"""<table>
<thead>
<tr>{"".join(spans)}<th class="first" colspan="4" scope="colgroup">cost</th></tr>
<tr>{"".join(heads)}{cells(["parameters", "epochs", "minutes", "images/s"], "th")}</tr>
</thead>
<tbody>
{chr(10).join(rows)}
</tbody>
</table>"""


def results_row(row: MetricsRow, table: Table) -> str:
  best = table.best
  status = "" if row["status"] == "finished" else f'<small class="status">{escape(row["status"])}</small>'
  test, validation, train = ([with_spread(row, split, term) for term in TERMS] for split in SPLITS[::-1])
  test[0] = bold(test[0], row["name"] == best["elbo"])
  test.append(bold(comparison.likelihood(row), row["name"] == best["nll"]))
  test += [comparison.bits_per_dim(row)] if table.metric_names.bits else []
  head = f'<th scope="row">{escape(row["name"])}<small>{escape(row["model"])}</small>{status}</th>'
  return f"<tr>{head}{''.join(map(cells, (test, validation, train, comparison.facts(row))))}</tr>"


def cells(values: Sequence[str], tag: str = "td") -> str:
  """A group of columns, with a line on its left."""
  first, *rest = values
  return f'<{tag} class="first">{first}</{tag}>' + "".join(f"<{tag}>{value}</{tag}>" for value in rest)


def likelihood_curves(table: Table) -> str:
  """How the test NLL falls with K, where that has been measured."""
  curves = {row["name"]: dict(row["test"]["nll_curve"]) for row in table.rows if (row["test"] or {}).get("nll_curve")}
  if not curves:
    return ""
  samples = sorted({count for curve in curves.values() for count in curve})
  head = "".join(f'<th scope="col">{number(count, 0)}</th>' for count in samples)
  rows = []
  for name, curve in curves.items():
    values = "".join(f"<td>{number(curve.get(count))}</td>" for count in samples)
    rows.append(f'<tr><th scope="row">{escape(name)}</th>{values}</tr>')
  title = f"Test {table.metric_names.nll} by K"
  return f"""<h3>{title}</h3>
<div class="scroll" role="region" aria-label="{title} on {escape(table.title)}" tabindex="0">
<table>
<thead><tr><th class="name" scope="col">K</th>{head}</tr></thead>
<tbody>
{chr(10).join(rows)}
</tbody>
</table>
</div>
"""


def pictures(runs: Sequence[Run]) -> str:
  """Every kind of picture that some run has, the runs side by side."""
  parts = []
  for file, title in PICTURE_TITLES.items():
    shown = [
      figure(
        content, f"{run.name}: {title.lower()}", f"{escape(run.name)} <small>{escape(run.model)}</small>", "picture"
      )
      for run in runs
      if (content := read_picture(run.workdir / file)) is not None
    ]
    if shown:
      parts.append(f"<h3>{title}</h3>\n{grid(shown)}")
  return "\n".join(["<h2>Pictures</h2>", *parts]) if parts else ""


def read_picture(path: Path) -> bytes | None:
  """A PNG's or GIF's bytes, or None where there is none, or only a part of one that is still being written."""
  content = path.read_bytes() if path.is_file() else b""
  whole = content.endswith((b"IEND\xaeB`\x82", b"\x3b"))
  return content if whole and content.startswith((b"\x89PNG\r\n\x1a\n", b"GIF8")) else None


def figure(content: bytes, alt: str, caption: str, kind: str) -> str:
  """A picture with its caption, which is HTML already; all its bytes are in the page."""
  is_png = content.startswith(b"\x89PNG")
  width, height = struct.unpack_from(">II", content, 16) if is_png else struct.unpack_from("<HH", content, 6)
  kind += " wide" if width > 2.5 * height else ""
  source = f"data:image/{'png' if is_png else 'gif'};base64,{base64.b64encode(content).decode()}"
  return (
    f'<figure class="{kind}"><img loading="lazy" width="{width}" height="{height}" alt="{escape(alt)}" src="{source}">'
    f"<figcaption>{caption}</figcaption></figure>"
  )


def grid(metric_names: Sequence[str], kind: str = "") -> str:
  return f'<div class="grid {kind}">\n' + "\n".join(metric_names) + "\n</div>"


def bold(text: str, best: bool) -> str:
  return f"<strong>{text}</strong>" if best else text


def escape(text: str) -> str:
  return html.escape(text)
