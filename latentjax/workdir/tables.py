"""Tables of results, rendered for the terminal, Markdown and HTML."""

import dataclasses
import html
import re
from collections.abc import Mapping, Sequence
from typing import Any

import rich.table
from rich.text import Text

from latentjax.workdir.protocol import SPLITS, MetricNames, MetricsRow


class Bold(str):
  """A cell that every renderer emphasizes."""


@dataclasses.dataclass(frozen=True)
class Table:
  """A table of text cells; the renderers escape all of them.

  Attributes:
    rows: Cells in the order of `columns`; a short row is filled up with empty cells.
    caption: Printed below the table in the terminal.
    notes: Paragraphs below the table in Markdown and HTML.
    num_labels: Number of leading columns that hold text; the others hold numbers, aligned to the right.
  """

  title: str
  columns: Sequence[str]
  rows: Sequence[Sequence[str]]
  caption: str | None = None
  notes: Sequence[str] = ()
  num_labels: int = 1

  def __rich__(self) -> rich.table.Table:
    table = rich.table.Table(title=self.title, caption=self.caption, title_justify="left")
    for index, column in enumerate(self.columns):
      table.add_column(Text(column), justify="left" if index < self.num_labels else "right", overflow="fold")
    for row in self.rows:
      table.add_row(*(Text(cell, "bold" if isinstance(cell, Bold) else "") for cell in row))
    return table

  def to_markdown(self) -> str:
    aligned = ["---" if index < self.num_labels else "---:" for index in range(len(self.columns))]
    rows = [[_markdown_cell(cell) for cell in row] for row in (self.columns, *self.rows)]
    lines = [f"| {' | '.join(row)} |" for row in (rows[0], aligned, *rows[1:])]
    return "\n\n".join([f"## {_escape_markdown(self.title)}", "\n".join(lines), *self.notes]) + "\n"

  def to_html(self, heading: str = "h2") -> str:
    """Returns the title as a heading, the table in a box that scrolls sideways, and the notes."""
    title = html.escape(self.title)
    head = "".join(f'<th scope="col"{self._html_class(i)}>{html.escape(x)}</th>' for i, x in enumerate(self.columns))
    body = "\n".join(f"<tr>{''.join(map(self._html_cell, range(len(row)), row))}</tr>" for row in self.rows)
    notes = "".join(f'\n<p class="note">{html.escape(note)}</p>' for note in self.notes)
    return (
      f"<{heading}>{title}</{heading}>\n"
      f'<div class="scroll" role="region" aria-label="{title}" tabindex="0">\n'
      f"<table>\n<thead>\n<tr>{head}</tr>\n</thead>\n<tbody>\n{body}\n</tbody>\n</table>\n</div>{notes}"
    )

  def _html_class(self, index: int) -> str:
    return ' class="label"' if index < self.num_labels else ""

  def _html_cell(self, index: int, cell: str) -> str:
    text = f"<strong>{html.escape(cell)}</strong>" if isinstance(cell, Bold) else html.escape(cell)
    return f'<th scope="row" class="label">{text}</th>' if index == 0 else f"<td{self._html_class(index)}>{text}</td>"


def _markdown_cell(cell: str) -> str:
  text = _escape_markdown(cell)
  return f"**{text}**" if isinstance(cell, Bold) else text


def _escape_markdown(text: str) -> str:
  return re.sub(r"([\\`*_\[\]<>|&#~])", r"\\\1", " ".join(text.split()))


def results_table(title: str, results: Mapping[str, Any], metric_names: MetricNames) -> Table:
  """Returns the content of results.json as a table with a row per split.

  ± is the standard error over images or, of several seeds, the standard deviation over seeds.
  """
  caption = "nats per image; ± standard error over images"
  if "seeds" in results:
    caption = f"nats per image; mean ± standard deviation over {len(results['seeds'])} seeds"
  bits = {"bits_per_dim": f"bits/dim by {metric_names.terms['elbo']}", "nll_bits_per_dim": f"by {metric_names.nll}"}
  bits = bits if metric_names.bits else {}
  rows = []
  for split in (split for split in SPLITS if split in results):
    samples = f" (K = {results[split]['nll_samples']})" if "nll" in results[split] else ""
    terms = [format_metric(results, split, term) for term in metric_names.terms]
    per_dim = [format_metric(results, split, name, digits=3) for name in bits]
    rows.append([split, *terms, format_metric(results, split, "nll") + samples, *per_dim])
  return Table(title, ["", *metric_names.terms.values(), metric_names.nll, *bits.values()], rows, caption)


def sweep_table(
  title: str, finished: Mapping[str, MetricsRow], failed: Mapping[str, str], metric_names: MetricNames
) -> Table:
  """Returns a row per run: finished runs by descending validation ELBO, then failed ones.

  Args:
    finished: Name of a run -> its results; all of one protocol.
    failed: Name of a run -> its error message.
  """
  several = any("std" in results for results in finished.values())
  caption = f"nats per image; ± standard {'deviation over seeds' if several else 'error over images'}"
  bound, nll = metric_names.terms["elbo"], metric_names.nll
  columns = ["run", f"validation {bound}", f"test {bound}", f"test {nll}", "best epoch", "minutes"]
  rows = []
  for name, results in sorted(finished.items(), key=lambda item: -item[1]["validation"]["elbo"]):
    metrics = [
      format_metric(results, split, key) for split, key in (("validation", "elbo"), ("test", "elbo"), ("test", "nll"))
    ]
    rows.append([name, *metrics, f"{round(results['epoch'], 1):g}", f"{results['train_minutes']:.1f}"])
  return Table(title, columns, [*rows, *([name, "failed"] for name in failed)], caption)


def format_metric(results: Mapping[str, Any], split: str, name: str, digits: int = 2) -> str:
  """Returns a metric with its standard deviation over seeds or its standard error over images, or "-" if missing."""
  metrics = results[split] or {}
  if name not in metrics:
    return "-"
  spread = results["std"][split][name] if results.get("std") else metrics.get(f"{name}_stderr")
  return format_number(metrics[name], digits) + ("" if spread is None else f" ± {format_number(spread, digits)}")


def format_number(value: float | None, digits: int = 2) -> str:
  return "-" if value is None else f"{value:,.{digits}f}"
