"""Comparison of runs: one table per protocol, since metrics under different protocols are not comparable."""

import dataclasses
import json
from collections.abc import Sequence

from latentjax.workdir.protocol import BITS, TERMS, MetricNames, MetricsRow, Protocol
from latentjax.workdir.run import Run
from latentjax.workdir.tables import Bold, Table, format_metric, format_number

MEASUREMENT = (
  "All metrics are in nats per image. {elbo} is evaluated with beta 1 and one sample, as -({kl} + {reconstruction});"
  " higher is better. {nll} is estimated from K importance samples and is on average an upper bound; lower is better."
  " ± is the standard error over images. Every run is evaluated at its epoch of the highest validation bound; the test"
  " split selects nothing."
)

BINARIZATION = {
  "dynamic": "Dynamic binarisation: training pixels are sampled in every batch; for evaluation, every split is sampled"
  " once.",
  "static": "Static binarisation: every pixel is sampled once, for training too.",
  "none": "No binarisation: pixels are used as they are.",
}


@dataclasses.dataclass(frozen=True)
class Comparison:
  """Runs of one protocol.

  Attributes:
    rows: `Run.row` of each.
  """

  protocol: Protocol
  rows: list[MetricsRow]

  @property
  def title(self) -> str:
    return self.protocol.title

  @property
  def metric_names(self) -> MetricNames:
    return self.protocol.metric_names

  @property
  def best(self) -> dict[str, str | None]:
    """Names of the runs with the best test `elbo` and `nll`; None if fewer than two are comparable."""
    counts = {row["test"].get("num_examples") for row in self.rows if row["test"]}
    comparable = len(counts) == 1 and self._same_images
    elbos = {row["name"]: row["test"]["elbo"] for row in self.rows if row["test"] and comparable}
    nlls = {row["name"]: row["test"]["nll"] for row in self.rows if row["test"] and "nll" in row["test"]}
    return {
      "elbo": max(elbos, key=elbos.get) if len(elbos) > 1 else None,
      "nll": min(nlls, key=nlls.get) if len(nlls) > 1 and not self._nll_differences else None,
    }

  @property
  def notes(self) -> list[str]:
    notes = [BINARIZATION[self.protocol.binarization], *([self.metric_names.note] if self.metric_names.note else [])]
    notes += [
      f"The {self.metric_names.nll}s differ in {difference}, so none is marked as the best."
      for difference in self._nll_differences
    ]
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
  names = [{**comparison.metric_names.terms, "nll": comparison.metric_names.nll} for comparison in comparisons]
  return MEASUREMENT.format(**{key: " or ".join(dict.fromkeys(each[key] for each in names)) for key in names[0]})


def to_json(comparisons: Sequence[Comparison]) -> str:
  """Returns the content of comparison.json, with every number at the precision of the runs' own files."""
  tables = [
    {
      "dataset": comparison.protocol.dataset,
      "image_size": comparison.protocol.image_size,
      "binarization": comparison.protocol.binarization,
      "likelihood": comparison.metric_names.likelihood,
      "notes": comparison.notes,
      "best": comparison.best,
      "runs": comparison.rows,
    }
    for comparison in comparisons
  ]
  content = {"units": "nats per image", "protocol": describe_measurement(comparisons), "tables": tables}
  return json.dumps(content, indent=2) + "\n"


def to_markdown(comparisons: Sequence[Comparison]) -> str:
  """Returns the content of comparison.md."""
  tables = [comparison_table(comparison).to_markdown() for comparison in comparisons]
  return "\n".join(["# Comparison\n", describe_measurement(comparisons) + "\n", *tables])


def comparison_table(comparison: Comparison) -> Table:
  """Returns all metrics of every run, test first, and the cost of its training."""
  columns = ["run", "model", *(f"test {name}" for name in _test_columns(comparison))]
  columns += [f"{split} {name}" for split in ("validation", "train") for name in comparison.metric_names.terms.values()]
  rows = []
  for row in comparison.rows:
    status = "" if row["status"] == "finished" else f" ({row['status']})"
    others = [format_metric(row, split, term) for split in ("validation", "train") for term in TERMS]
    rows.append([row["name"] + status, row["model"], *_test_cells(comparison, row), *others, *_cost_cells(row)])
  columns += ["parameters", "epochs", "minutes", "images/s"]
  return Table(comparison.title, columns, rows, notes=comparison.notes, num_labels=2)


def summary_table(comparison: Comparison) -> Table:
  """Returns epochs, minutes, test ELBO and test NLL of every run, for the terminal."""

  def select(cells: Sequence[str]) -> list[str]:
    return [cells[0], *cells[3:]]  # without KL and reconstruction

  rows = []
  for row in comparison.rows:
    name = row["name"] + (f" ({row['num_seeds']} seeds)" if row["num_seeds"] > 1 else "")
    rows.append([name, *_cost_cells(row)[1:3], *select(_test_cells(comparison, row))])
  caption = "test, nats per image; ± standard error over images, or standard deviation over several seeds"
  return Table(comparison.title, ["run", "epochs", "minutes", *select(_test_columns(comparison))], rows, caption)


def nll_curve_table(comparison: Comparison) -> Table | None:
  """Returns the test NLL by the number K of importance samples, or None if no run has been evaluated."""
  curves = {
    row["name"]: dict(row["test"]["nll_curve"]) for row in comparison.rows if (row["test"] or {}).get("nll_curve")
  }
  if not curves:
    return None
  samples = sorted({count for curve in curves.values() for count in curve})
  rows = [[name, *(format_number(curve.get(count)) for count in samples)] for name, curve in curves.items()]
  columns = ["K", *(format_number(count, 0) for count in samples)]
  return Table(f"Test {comparison.metric_names.nll} by K", columns, rows)


def _test_columns(comparison: Comparison) -> list[str]:
  names = comparison.metric_names
  return [*names.terms.values(), f"{names.nll} (K)", *(["bits/dim"] if names.bits else [])]


def _test_cells(comparison: Comparison, row: MetricsRow) -> list[str]:
  """Test metrics in the order of `_test_columns`; bits per dimension are those of the ELBO and of the NLL."""
  test, best = row["test"] or {}, comparison.best
  elbo, kl, reconstruction = (format_metric(row, "test", term) for term in TERMS)
  nll = f"{format_metric(row, 'test', 'nll')} ({test['nll_samples']})" if "nll" in test else "-"
  bits = " / ".join(format_metric(row, "test", name, digits=3) for name in BITS)
  cells = [
    Bold(elbo) if row["name"] == best["elbo"] else elbo,
    kl,
    reconstruction,
    Bold(nll) if row["name"] == best["nll"] else nll,
  ]
  return [*cells, *([bits] if comparison.metric_names.bits else [])]


def _cost_cells(row: MetricsRow) -> list[str]:
  epochs, wanted = row["epochs"] or 0, row["epochs_asked"]
  return [
    format_number(row["parameters"], 0),
    format_number(epochs, 0) if epochs >= wanted else f"{epochs} of {wanted}",
    format_number(row["minutes"], 1),
    format_number(row["images_per_second"], 0),
  ]
