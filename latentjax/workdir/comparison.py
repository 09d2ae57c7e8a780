"""Comparison of runs: one table per protocol, since metrics under different protocols are not comparable."""

import dataclasses
from collections.abc import Sequence

from latentjax.runtime.fileio import dump_json
from latentjax.workdir.protocol import BITS, TERMS, MetricsRow, Protocol
from latentjax.workdir.run import Run
from latentjax.workdir.tables import Bold, Table, format_metric, format_number

MEASUREMENT = (
  "All metrics are in nats per image. {elbo} is evaluated with beta 1 and one sample, as -({kl} + {reconstruction});"
  " higher is better. {nll} is estimated from K importance samples and is on average an upper bound; lower is better."
  " ± is the standard error over images. Every run is evaluated at its epoch of the highest validation bound; the test"
  " split selects nothing."
)

BINARIZATION = {
  "dynamic": "Dynamic binarization: training pixels are sampled in every batch; for evaluation, every split is sampled"
  " once.",
  "static": "Static binarization: every pixel is sampled once, for training too.",
  "none": "No binarization: pixels are used as they are.",
}


@dataclasses.dataclass(frozen=True)
class Comparison:
  """Runs of one protocol; `rows` has the `Run.row` of each."""

  protocol: Protocol
  rows: list[MetricsRow]

  @property
  def best(self) -> dict[str, str | None]:
    """Names of the runs with the best test `elbo` and `nll`; None if fewer than two are comparable."""
    tests = {row["name"]: row["test"] for row in self.rows if row["test"]}
    comparable = self._same_images and len({test.get("num_examples") for test in tests.values()}) == 1
    elbos = {name: test["elbo"] for name, test in tests.items() if comparable and test["elbo"] is not None}
    known = {name: test["nll"] for name, test in tests.items() if test.get("nll") is not None}
    nlls = {} if self._nll_differences else known
    return {
      "elbo": max(elbos, key=elbos.get) if len(elbos) > 1 else None,
      "nll": min(nlls, key=nlls.get) if len(nlls) > 1 else None,
    }

  @property
  def notes(self) -> list[str]:
    names = self.protocol.metric_names
    notes = [BINARIZATION[self.protocol.binarization], *([names.note] if names.note else [])]
    notes += [f"The {names.nll}s differ in {each}, so none is marked as the best." for each in self._nll_differences]
    if any(row["num_seeds"] > 1 for row in self.rows):
      notes.append(
        "A run of several seeds shows mean ± standard deviation (n - 1) over seeds, of the NLL too. Each seed is"
        " evaluated at its own best epoch; parameters are those of one seed."
      )
    if any(row["status"] != "finished" for row in self.rows):
      notes.append(
        "An unfinished run is still training or was stopped. Before its evaluation it shows the minutes so far and the"
        " validation metrics of its best epoch so far."
      )
    return notes

  @property
  def _same_images(self) -> bool:
    return len({row["images"] for row in self.rows}) < 2  # an image folder may have grown between the runs

  @property
  def _nll_differences(self) -> list[str]:
    measured = [row["test"] for row in self.rows if row["test"] and "nll" in row["test"]]
    differences = [] if self._same_images else ["the images, or in the path that they were read from"]
    if len({test["nll_samples"] for test in measured}) > 1:
      differences.append("K, where a smaller K gives a looser bound")
    if len({test.get("num_examples") for test in measured}) > 1:
      counts = [format_number(test.get("num_examples"), 0) for test in measured]
      differences.append(f"the number of test images ({', '.join(counts)})")
    return differences


def group_by_protocol(runs: Sequence[Run]) -> list[Comparison]:
  """Returns one comparison per protocol, in the order of the runs."""
  protocols = dict.fromkeys(run.protocol for run in runs)
  return [Comparison(protocol, [run.row() for run in runs if run.protocol == protocol]) for protocol in protocols]


def describe_measurement(comparisons: Sequence[Comparison]) -> str:
  """Explains the metrics, under the names that the comparisons use."""
  metric_names = [comparison.protocol.metric_names for comparison in comparisons]
  names = [{**each.terms, "nll": each.nll} for each in metric_names]
  return MEASUREMENT.format(**{key: " or ".join(dict.fromkeys(each[key] for each in names)) for key in names[0]})


def to_json(comparisons: Sequence[Comparison]) -> str:
  """Returns the content of comparison.json, with every number at the precision of the runs' own files."""
  tables = [
    {
      **comparison.protocol._asdict(),
      "likelihood": comparison.protocol.metric_names.likelihood,
      "notes": comparison.notes,
      "best": comparison.best,
      "runs": comparison.rows,
    }
    for comparison in comparisons
  ]
  content = {"units": "nats per image", "protocol": describe_measurement(comparisons), "tables": tables}
  return dump_json(content)


def to_markdown(comparisons: Sequence[Comparison]) -> str:
  """Returns the content of comparison.md."""
  tables = [comparison_table(comparison).to_markdown() for comparison in comparisons]
  return "\n".join(["# Comparison\n", describe_measurement(comparisons) + "\n", *tables])


def comparison_table(comparison: Comparison) -> Table:
  """Returns all metrics of every run, test first, and the cost of its training."""
  names, best = comparison.protocol.metric_names, comparison.best
  others = [(split, term) for split in ("validation", "train") for term in TERMS]
  columns = ["run", "model", *(f"test {name}" for name in names.terms.values()), f"test {names.nll} (K)"]
  columns += ["test bits/dim"] if names.bits else []  # of the ELBO and of the NLL
  columns += [
    *(f"{split} {names.terms[term]}" for split, term in others),
    "parameters",
    "epochs",
    "minutes",
    "images/s",
  ]
  rows = []
  for row in comparison.rows:
    status = "" if row["status"] == "finished" else f" ({row['status']})"
    cells = {name: format_metric(row, "test", name) for name in (*TERMS, "nll")}
    if cells["nll"] != "-":
      cells["nll"] += f" ({row['test']['nll_samples']})"
    if names.bits:
      cells["bits"] = " / ".join(format_metric(row, "test", name, digits=3) for name in BITS)
    metrics = [Bold(cell) if row["name"] == best.get(name) else cell for name, cell in cells.items()]
    metrics += [format_metric(row, split, term) for split, term in others]
    epochs, wanted = row["epochs"] or 0, row["max_epochs"]
    cost = [
      format_number(row["parameters"], 0),
      f"{epochs:,}" if epochs >= wanted else f"{epochs} of {wanted}",
      format_number(row["minutes"], 1),
      format_number(row["images_per_second"], 0),
    ]
    rows.append([row["name"] + status, row["model"], *metrics, *cost])
  return Table(comparison.protocol.title, columns, rows, notes=comparison.notes, num_labels=2)


def summary_table(comparison: Comparison) -> Table:
  """Returns the columns of `comparison_table` that fit in a terminal: test ELBO and NLL, epochs and minutes."""
  table, names = comparison_table(comparison), comparison.protocol.metric_names
  shown = ("run", f"test {names.terms['elbo']}", f"test {names.nll} (K)", "test bits/dim", "epochs", "minutes")
  indices = [index for index, column in enumerate(table.columns) if column in shown]
  columns, *rows = ([row[index] for index in indices] for row in (table.columns, *table.rows))
  caption = "nats per image; ± standard error over images, or standard deviation over several seeds"
  return Table(table.title, columns, rows, caption)


def nll_curve_table(comparison: Comparison) -> Table | None:
  """Returns the test NLL by the number K of importance samples, or None if no run has been evaluated."""
  curves = {row["name"]: dict((row["test"] or {}).get("nll_curve", [])) for row in comparison.rows}
  samples = sorted({count for curve in curves.values() for count in curve})
  if not samples:
    return None
  rows = [[name, *(format_number(curve.get(count)) for count in samples)] for name, curve in curves.items() if curve]
  columns = ["K", *(format_number(count, 0) for count in samples)]
  return Table(f"Test {comparison.protocol.metric_names.nll} by K", columns, rows)
