"""Tables of results for the terminal."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table


def results_table(title: str, results: Mapping[str, Any], metric_names: Any) -> Table:
  """ELBO, KL, reconstruction and NLL of every split, in nats; where they belong there, bits per dimension.

  ELBO and NLL of one seed come with their standard error over images; of several, all with the deviation over seeds.

  Args:
    figures: what they are called, see `workdir.figures`.
  """
  splits = [split for split in ("train", "validation", "test") if split in results]
  caption = "nats per image; ± standard error over images"
  if "seeds" in results:
    caption = f"nats per image; mean ± standard deviation over {len(results['seeds'])} seeds"
  bits = {"bits_per_dim": f"bits/dim by {metric_names.terms['elbo']}", "nll_bits_per_dim": f"by {metric_names.nll}"}
  bits = bits if metric_names.bits else {}
  names = [*metric_names.terms.values(), metric_names.nll, *bits.values()]
  table = Table("", *names, title=title, caption=caption, title_justify="left")
  for column in table.columns[1:]:
    column.justify = "right"
  for split in splits:
    numbers = results[split]
    nll = with_spread(results, split, "nll") + (f" (K = {numbers['nll_samples']})" if "nll" in numbers else "")
    per_dim = [with_spread(results, split, name, digits=3) for name in bits]
    table.add_row(split, *(with_spread(results, split, name) for name in metric_names.terms), nll, *per_dim)
  return table


def with_spread(results: Mapping[str, Any], split: str, name: str, digits: int = 2) -> str:
  """A number of a split with its deviation over seeds, or of one seed its error over images; "-" where not known."""
  numbers = results[split] or {}
  if name not in numbers:
    return "-"
  spread = results["std"][split][name] if results.get("std") else numbers.get(f"{name}_stderr")
  return number(numbers[name], digits) + ("" if spread is None else f" ± {number(spread, digits)}")


def number(value: float | None, digits: int = 2) -> str:
  return "-" if value is None else f"{value:,.{digits}f}"


def comparison_table(title: str, names: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
  """Runs of one protocol: name, epochs, minutes and test figures of these names, as text."""
  caption = "test, nats per image; ± standard error over images, of several seeds standard deviation over them"
  table = Table("run", "epochs", "minutes", *names, title=title, caption=caption)
  table.title_justify = "left"
  for column in table.columns[1:]:
    column.justify = "right"
  for row in rows:
    table.add_row(*row)
  return table


def sweep_table(
  title: str, finished: Mapping[str, Mapping[str, Any]], failed: Mapping[str, str], metric_names: Any
) -> Table:
  """A line per run: the highest validation ELBO first, what failed last.

  Args:
    finished: results by the run's name, whose figures compare.
    failed: what went wrong by the run's name.
    figures: as of `results_table`.
  """
  several = any("std" in run for run in finished.values())
  caption = f"nats per image; ± standard {'deviation over seeds' if several else 'error over images'}"
  table = Table(title=title, caption=caption, title_justify="left")
  table.add_column("run", overflow="fold")
  bound, nll = metric_names.terms["elbo"], metric_names.nll
  for name in (f"validation {bound}", f"test {bound}", f"test {nll}", "best epoch", "minutes"):
    table.add_column(name, justify="right")
  for name in sorted(finished, key=lambda name: -finished[name]["validation"]["elbo"]):
    run = finished[name]
    shown = (("validation", "elbo"), ("test", "elbo"), ("test", "nll"))
    bounds = [with_spread(run, split, number) for split, number in shown]
    table.add_row(name, *bounds, f"{round(run['epoch'], 1):g}", f"{run['train_minutes']:.1f}")
  for name in failed:
    table.add_row(name, "failed")
  return table
