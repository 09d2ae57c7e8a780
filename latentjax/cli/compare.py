"""--mode=compare: several runs side by side, from the files of their workdirs alone."""

import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from latentjax import models
from latentjax.runtime.console import console
from latentjax.runtime.errors import RunError, UsageError
from latentjax.runtime.fileio import write_atomic
from latentjax.workdir import comparison, plots, report
from latentjax.workdir.run_summary import Run, read_run
from latentjax.workdir.tables import comparison_table


def run(workdirs: Sequence[str], out: Path) -> None:
  """Writes comparison.md, comparison.json, comparison.png, groups.png and report.html into `out`.

  Raises:
    UsageError: a workdir is missing, empty or given twice, or `out` is the workdir of a run.
    RunError: a file of a run is damaged, or `out` cannot be written.
  """
  runs = read_runs(workdirs)
  if (out / "config.json").exists():
    raise UsageError(f"{out} holds a run: choose another --workdir for the comparison")
  tables = comparison.tables(runs)
  try:
    out.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise RunError(f"cannot create {out} ({error.strerror})") from None
  write_atomic(out / "comparison.md", comparison.to_markdown(tables))
  write_atomic(out / "comparison.json", comparison.to_json(tables))

  curves = {table.title: {run.name: run.lines for run in runs if run.protocol == table.protocol} for table in tables}
  terms = {table.title: table.metric_names.terms for table in tables}
  plots.save_comparison(out / "comparison.png", curves, ("epoch", "minutes"), terms)
  groups = {run.name: run.results["test"] for run in runs if run.results and run.results["test"].get("kl_per_group")}
  if groups:
    plots.save_groups(out / "groups.png", groups)

  panels = {
    title: [png(plots.save_comparison, {title: lines}, (over,), terms) for over in ("epoch", "minutes")]
    for title, lines in curves.items()
  }
  bars = {name: png(plots.save_groups, {name: test}) for name, test in groups.items()}
  write_atomic(out / "report.html", report.render(tables, runs, panels, bars))

  for table in tables:
    rows = [comparison.headline(row, table.metric_names) for row in table.rows]
    console.print(comparison_table(table.title, table.test_names, rows))
  names = ["comparison.md", "comparison.json", "comparison.png", *(["groups.png"] if groups else []), "report.html"]
  for name in names:
    console.print(f"  {out / name}")
  console.print(f"  report.html is one file of {(out / 'report.html').stat().st_size / 1e6:.1f} MB, for any browser")


def read_runs(workdirs: Sequence[str]) -> list[Run]:
  """The runs in their given order, each under its directory's name, or its whole path where two share a name.

  Raises:
    UsageError: none are given, or one is empty, given twice, or no run's workdir.
    RunError: a file of a run is damaged.
  """
  if not any(workdirs):
    raise UsageError("--mode=compare needs --workdirs=A,B,C, the workdirs of runs")
  if not all(workdirs):
    raise UsageError(f"--workdirs={','.join(workdirs)} has an empty name between commas")
  paths = [Path(workdir).resolve() for workdir in workdirs]
  for workdir, path in zip(workdirs, paths, strict=True):
    if paths.count(path) > 1:
      raise UsageError(f"--workdirs has {workdir} twice")
    if not path.is_dir():
      raise UsageError(
        f"{workdir} is no directory: --workdirs takes the workdirs of runs, one with a comma in double quotes"
      )
  shared = Counter(path.name for path in paths)
  return [
    read_run(Path(workdir), path.name if shared[path.name] == 1 else str(path), models.display_name)
    for workdir, path in zip(workdirs, paths, strict=True)
  ]


def png(save, *args) -> bytes:
  """What a plot writes, kept in memory."""
  file = io.BytesIO()
  save(file, *args)
  return file.getvalue()
