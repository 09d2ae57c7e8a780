"""What a person sees while a run goes on: a progress bar, a line per epoch, a table at the end."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
if not console.is_terminal:
  console.width = 200  # a file has room for the names of a sweep's runs


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


def sweep_table(title: str, finished: Mapping[str, Mapping[str, Any]], failed: Mapping[str, str]) -> Table:
  """A line per run: the highest validation ELBO first, what failed last.

  Args:
    finished: results by the run's name.
    failed: what went wrong by the run's name.
  """
  table = Table(title=title, caption="nats per image", title_justify="left")
  table.add_column("run", overflow="fold")
  for name in ("validation ELBO", "test ELBO", "test NLL", "best epoch", "minutes"):
    table.add_column(name, justify="right")
  for name in sorted(finished, key=lambda name: -finished[name]["validation"]["elbo"]):
    run = finished[name]
    bounds = [f"{number:.2f}" for number in (run["validation"]["elbo"], run["test"]["elbo"], run["test"]["nll"])]
    table.add_row(name, *bounds, str(run["epoch"]), f"{run['train_minutes']:.1f}")
  for name in failed:
    table.add_row(name, "failed")
  return table
