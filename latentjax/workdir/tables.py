"""Tables of results, rendered for the terminal, Markdown and HTML."""

import dataclasses
import html
import math
import re
from collections.abc import Mapping, Sequence

import rich.table
from rich.text import Text

from latentjax.workdir.protocol import SPLITS, MetricNames, MetricsRow


class Bold(str):
  """A cell that every renderer emphasizes."""


@dataclasses.dataclass(frozen=True)
class Table:
  """A table of text cells; the renderers escape all of them."""

  title: str
  columns: Sequence[str]
  rows: Sequence[Sequence[str]]  # a short row is padded with empty cells
  caption: str | None = None  # printed below the table in the terminal
  notes: Sequence[str] = ()  # paragraphs below the table in Markdown and HTML
  num_labels: int = 1  # number of leading columns that hold text; the others hold numbers, aligned to the right

  def __rich__(self) -> rich.table.Table:
    table = rich.table.Table(title=self.title, caption=self.caption, title_justify="left")
    for index, column in enumerate(self.columns):
      table.add_column(Text(column), justify="left" if index < self.num_labels else "right", overflow="fold")
    for row in self.rows:
      table.add_row(*(Text(cell, "bold" if isinstance(cell, Bold) else "") for cell in row))
    return table

  def to_markdown(self) -> str:
    alignments = ["---" if index < self.num_labels else "---:" for index in range(len(self.columns))]
    head, *body = ([_escape_markdown(cell) for cell in row] for row in (self.columns, *self.rows))
    lines = [f"| {' | '.join(row)} |" for row in (head, alignments, *body)]
    return "\n\n".join([f"## {_escape_markdown(self.title)}", "\n".join(lines), *self.notes]) + "\n"

  def to_html(self, heading: str = "h2") -> str:
    """Returns the title as a heading, the table in a box that scrolls horizontally, and the notes."""
    title, head = html.escape(self.title), self._html_row(self.columns, "th")
    body = "\n".join(self._html_row(row, "td") for row in self.rows)
    notes = "".join(f'\n<p class="note">{html.escape(note)}</p>' for note in self.notes)
    return (
      f"<{heading}>{title}</{heading}>\n"
      f'<div class="scroll" role="region" aria-label="{title}" tabindex="0">\n'
      f"<table>\n<thead>\n{head}\n</thead>\n<tbody>\n{body}\n</tbody>\n</table>\n</div>{notes}"
    )

  def _html_row(self, cells: Sequence[str], tag_of_numbers: str) -> str:
    row = ""
    for index, cell in enumerate(cells):
      tag, attribute = ("th", ' class="label"') if index < self.num_labels else (tag_of_numbers, "")
      text = f"<strong>{html.escape(cell)}</strong>" if isinstance(cell, Bold) else html.escape(cell)
      row += f"<{tag}{attribute}>{text}</{tag}>"
    return f"<tr>{row}</tr>"


def _escape_markdown(text: str) -> str:
  escaped = re.sub(r"([\\`*_\[\]<>|&#~])", r"\\\1", " ".join(text.split()))
  return f"**{escaped}**" if isinstance(text, Bold) else escaped


def results_table(title: str, results: MetricsRow, metric_names: MetricNames) -> Table:
  """Returns the content of results.json as a table with a row per split."""
  caption = "nats per image; ± standard error over images"
  if "seeds" in results:
    caption = f"nats per image; mean ± standard deviation over {len(results['seeds'])} seeds"
  bound, nll = metric_names.terms["elbo"], metric_names.nll
  bits = {"bits_per_dim": f"bits/dim by {bound}", "nll_bits_per_dim": f"by {nll}"} if metric_names.bits else {}
  rows = []
  for split in (split for split in SPLITS if split in results):
    terms = [format_metric(results, split, term) for term in (*metric_names.terms, "nll")]
    terms[-1] += f" (K = {results[split]['nll_samples']})" if terms[-1] != "-" else ""
    rows.append([split, *terms, *(format_metric(results, split, name, digits=3) for name in bits)])
  return Table(title, ["", *metric_names.terms.values(), nll, *bits.values()], rows, caption)


def sweep_table(
  title: str, finished: Mapping[str, MetricsRow], failed: Mapping[str, str], metric_names: MetricNames
) -> Table:
  """Returns a row per run of one protocol: results by descending validation ELBO, then the names of failed runs."""
  several = any("std" in results for results in finished.values())
  caption = f"nats per image; ± standard {'deviation over seeds' if several else 'error over images'}"
  metrics = {
    ("validation", "elbo"): metric_names.terms["elbo"],
    ("test", "elbo"): metric_names.terms["elbo"],
    ("test", "nll"): metric_names.nll,
  }
  elbos = {name: results["validation"]["elbo"] for name, results in finished.items()}
  rows = []
  for name in sorted(elbos, key=lambda name: math.inf if elbos[name] is None else -elbos[name]):
    results = finished[name]
    cells = [format_metric(results, *metric) for metric in metrics]
    rows.append([name, *cells, f"{round(results['epoch'], 1):g}", format_number(results["train_minutes"], 1)])
  columns = ["run", *(f"{split} {label}" for (split, _), label in metrics.items()), "best epoch", "minutes"]
  return Table(title, columns, [*rows, *([name, "failed"] for name in failed)], caption)


def format_metric(results: MetricsRow, split: str, name: str, digits: int = 2) -> str:
  """Returns a metric with its standard deviation over seeds or its standard error over images; "-" if unknown."""
  metrics = results[split] or {}
  if metrics.get(name) is None:
    return "-"
  spread = results["std"][split][name] if results.get("std") else metrics.get(f"{name}_stderr")
  return format_number(metrics[name], digits) + ("" if spread is None else f" ± {format_number(spread, digits)}")


def format_number(value: float | None, digits: int = 2) -> str:
  return "-" if value is None else f"{value:,.{digits}f}"
