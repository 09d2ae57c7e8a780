"""`latentjax compare`: several runs side by side, from the files of their workdirs alone."""

from collections.abc import Sequence
from pathlib import Path

from latentjax import models
from latentjax.cli.reference import program_name
from latentjax.runtime.console import console
from latentjax.runtime.errors import UsageError
from latentjax.runtime.fileio import write_atomic
from latentjax.workdir import comparison, plots, report
from latentjax.workdir.run import Run


def run(workdirs: Sequence[str], out: Path) -> None:
  """Writes comparison.md, comparison.json, comparison.png, groups.png and report.html into `out`."""
  runs = _open_runs(workdirs)
  if (out / "config.json").exists():
    raise UsageError(f"{out} holds a run. Choose another --workdir for the comparison.")
  comparisons = comparison.group_by_protocol(runs)
  out.mkdir(parents=True, exist_ok=True)
  write_atomic(out / "comparison.md", comparison.to_markdown(comparisons))
  write_atomic(out / "comparison.json", comparison.to_json(comparisons))
  for group in comparisons:
    console.print(comparison.summary_table(group))
  for name in ("comparison.md", "comparison.json"):
    console.print(f"  {out / name}")
  protocols = [group.protocol for group in comparisons]
  curves = {protocol: {run.name: run.lines for run in runs if run.protocol == protocol} for protocol in protocols}
  plots.save(out / "comparison.png", plots.save_curves, curves, ["epoch", "minutes"])
  groups = {run.name: run.results["test"] for run in runs if run.results and run.results["test"].get("kl_per_group")}
  if groups:
    plots.save(out / "groups.png", plots.save_groups, groups)
  panels = {}
  for protocol, lines in curves.items():
    args = plots.save_curves, {protocol: lines}
    panels[protocol] = [plots.png(f"curves over {axis}", *args, [axis]) for axis in ("epoch", "minutes")]
  bars = {name: plots.png(f"the groups of {name}", plots.save_groups, {name: test}) for name, test in groups.items()}
  write_atomic(out / "report.html", report.render(comparisons, runs, panels, bars))
  console.print(f"  {out / 'report.html'}")
  console.print(f"  report.html is one file of {(out / 'report.html').stat().st_size / 1e6:.1f} MB, for any browser")


def _open_runs(workdirs: Sequence[str]) -> list[Run]:
  """Opens runs in their order, each named after its directory, or by its whole path if two directories share a name."""
  if not any(workdirs):
    raise UsageError(f"`latentjax compare` needs --workdirs=A,B,C, as in `{program_name()} compare A B C`.")
  if not all(workdirs):
    raise UsageError(f"--workdirs={','.join(workdirs)} has an empty name. Remove the extra comma.")
  paths = [Path(workdir).resolve() for workdir in workdirs]
  names, runs = [path.name for path in paths], []
  for workdir, path in zip(workdirs, paths, strict=True):
    if paths.count(path) > 1:
      raise UsageError(f"--workdirs lists {workdir} twice. Remove one.")
    if not path.is_dir():
      raise UsageError(f"{workdir} is not a directory. Give workdirs of runs; double-quote a name that has a comma.")
    run, name = Run.open(Path(workdir)), path.name if names.count(path.name) == 1 else str(path)
    runs.append(run.labeled(name, models.display_name(run.config.model)))
  return runs
