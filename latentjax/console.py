"""What a person sees while a run goes on: a progress bar, a line per epoch, a table at the end."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)


def progress() -> Progress:
  """A bar that `update(task, advance=..., note=...)` moves; silent where the output is no terminal."""
  return Progress(
    TextColumn("{task.description}"),
    BarColumn(),
    MofNCompleteColumn(),
    TextColumn("{task.fields[note]}"),
    TimeElapsedColumn(),
    TextColumn("<"),
    TimeRemainingColumn(),
    console=console,
    transient=True,
    disable=not console.is_terminal,
  )


def results_table(title: str, results: Mapping[str, Any]) -> Table:
  """ELBO, KL, reconstruction and NLL of every split, in nats."""
  splits = [split for split in ("train", "validation", "test") if split in results]
  table = Table("", "ELBO", "KL", "reconstruction", "NLL", title=title, caption="nats per image", title_justify="left")
  for column in table.columns[1:]:
    column.justify = "right"
  for split in splits:
    numbers = results[split]
    nll = "-"
    if "nll" in numbers:
      stderr = "?" if numbers["nll_stderr"] is None else f"{numbers['nll_stderr']:.2f}"
      nll = f"{numbers['nll']:.2f} ± {stderr} (K = {numbers['nll_samples']})"
    table.add_row(split, *(f"{numbers[name]:.2f}" for name in ("elbo", "kl", "reconstruction")), nll)
  return table


def comparison_table(title: str, rows: Iterable[Sequence[str]]) -> Table:
  """Runs of one protocol: name, epochs, minutes, test ELBO and test NLL, as text."""
  table = Table("run", "epochs", "minutes", "ELBO", "NLL (K)", title=title, caption="test, nats per image")
  table.title_justify = "left"
  for column in table.columns[1:]:
    column.justify = "right"
  for row in rows:
    table.add_row(*row)
  return table
