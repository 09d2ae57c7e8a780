"""What a person sees while a run goes on: a progress bar, a line per epoch, a table at the end; train.log keeps it."""

import datetime
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from latentjax.errors import Stopped, explained

STYLE = {"highlight": False, "soft_wrap": True, "markup": False, "emoji": False}


class SafeStream:
  """A text stream that ignores write errors: after the first, such as a closed pipe or a full disk, it drops its text.

  Attributes:
    failure: the first error, or None.
  """

  def __init__(self, stream: Any):
    self._stream = stream
    self.failure: OSError | None = None

  def __getattr__(self, name: str) -> Any:
    return getattr(self._stream, name)

  def write(self, text: str) -> int:
    try:
      self._stream.write(text)
    except OSError as error:
      self._drop(error)
    return len(text)

  def flush(self) -> None:
    try:
      self._stream.flush()
    except OSError as error:
      self._drop(error)

  def _drop(self, failure: OSError) -> None:
    """Redirects the stream to /dev/null so that later flushes succeed."""
    self.failure = self.failure or failure
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, self._stream.fileno())
    os.close(null)
    with suppress(OSError):
      self._stream.flush()


def protect_stdio() -> None:
  """Wraps stdout and stderr so that neither can end a run; characters they cannot encode are escaped."""
  for number in range(3):  # a closed one would give its number to the next file that is opened
    try:
      os.fstat(number)
    except OSError:
      os.open(os.devnull, os.O_RDWR)
  for name, number in (("stdout", 1), ("stderr", 2)):
    stream = getattr(sys, name) or os.fdopen(number, "w", closefd=False)
    stream.reconfigure(errors="backslashreplace")
    setattr(sys, name, SafeStream(stream))


class Said(Console):
  """Rich's console; while `kept_in` a file, what it prints stands there too, but for the progress bar.

  And what was `noted` before there was a file.
  """

  def __init__(self):
    super().__init__(**STYLE)
    self._log: Console | None = None
    self._noted: list[tuple] | None = None  # what the next file begins with, while that is noted
    if not self.is_terminal:
      self.width = 200  # a file has room for the names of a sweep's runs

  def print(self, *objects: Any, **options: Any) -> None:
    super().print(*objects, **options)
    if self._log is not None:
      self._log.print(*objects, **options)
    elif self._noted is not None:
      self._noted.append((objects, options))

  @contextmanager
  def noted(self) -> Iterator[None]:
    """What is printed in this block stands at the head of the file that the block opens by `kept_in`."""
    self._noted = []
    try:
      yield
    finally:
      self._noted = None

  @contextmanager
  def kept_in(self, path: Path) -> Iterator[None]:
    """Adds to a file the command, what is printed in this block, and how it ended where that was no success.

    A file that cannot be written ends nothing. Of several processes that are one run only the first writes.
    """
    if self.quiet:
      yield
      return
    try:
      file = path.open("a", encoding="utf-8", errors="backslashreplace")
    except OSError as error:
      self.print(f"{path} cannot be written ({error.strerror}): what is said here is not kept")
      yield
      return
    with file:
      self._log = Console(file=SafeStream(file), width=200, color_system=None, force_terminal=False, **STYLE)
      self._log.print(f"\n{datetime.datetime.now():%Y-%m-%d %H:%M:%S}  {shlex.join(sys.argv)}")
      for objects, options in self._noted or ():
        self._log.print(*objects, **options)
      try:
        yield
      except Stopped:
        self._log.print("stopped")
        raise
      except Exception as error:
        self._log.print(f"error: {explained(error) or f'{type(error).__name__}: {error}'}")
        raise
      finally:
        self._log = None


console = Said()


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


def compiling() -> AbstractContextManager:
  """Shows a spinner while functions are traced and compiled; silent where the output is no terminal."""
  return console.status("compiling") if console.is_terminal else nullcontext()


def results_table(title: str, results: Mapping[str, Any], figures: Any) -> Table:
  """ELBO, KL, reconstruction and NLL of every split, in nats; where they belong there, bits per dimension.

  ELBO and NLL of one seed come with their standard error over images; of several, all with the deviation over seeds.

  Args:
    figures: what they are called, see `workdir.figures`.
  """
  splits = [split for split in ("train", "validation", "test") if split in results]
  caption = "nats per image; ± standard error over images"
  if "seeds" in results:
    caption = f"nats per image; mean ± standard deviation over {len(results['seeds'])} seeds"
  bits = {"bits_per_dim": f"bits/dim by {figures.terms['elbo']}", "nll_bits_per_dim": f"by {figures.nll}"}
  bits = bits if figures.bits else {}
  names = [*figures.terms.values(), figures.nll, *bits.values()]
  table = Table("", *names, title=title, caption=caption, title_justify="left")
  for column in table.columns[1:]:
    column.justify = "right"
  for split in splits:
    numbers = results[split]
    nll = with_spread(results, split, "nll") + (f" (K = {numbers['nll_samples']})" if "nll" in numbers else "")
    per_dim = [with_spread(results, split, name, digits=3) for name in bits]
    table.add_row(split, *(with_spread(results, split, name) for name in figures.terms), nll, *per_dim)
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
  title: str, finished: Mapping[str, Mapping[str, Any]], failed: Mapping[str, str], figures: Any
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
  bound, nll = figures.terms["elbo"], figures.nll
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
