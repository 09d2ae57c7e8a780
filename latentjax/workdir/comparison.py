"""Runs beside each other: one table per protocol, since figures of other data, sizes, binarisation or likelihood do
not compare.
"""

import dataclasses
import json
import re
from collections.abc import Sequence

from latentjax.workdir.protocol import SPLITS, TERMS, MetricNames, MetricsRow, Protocol
from latentjax.workdir.run_summary import Run
from latentjax.workdir.tables import number, with_spread

PROTOCOL = (
  "All figures are nats per image. {elbo} is the true bound, with beta 1 and one sample: -({kl} + {reconstruction}),"
  " higher is better. {nll} is estimated from K importance samples and is on average an upper bound, lower is better;"
  " ± is the standard error over images. A run is measured at its epoch of the best validation bound; test decides"
  " nothing."
)

BINARIZATION = {
  "dynamic": "Dynamic binarisation: training pixels are drawn anew in every batch, all splits once to be measured.",
  "static": "Static binarisation: every pixel has been drawn once, for training too.",
  "none": "No binarisation: pixels are the values that the images have.",
}


@dataclasses.dataclass(frozen=True)
class Table:
  """The runs of one protocol.

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
  def test_names(self) -> list[str]:
    """What `headline` has of test besides KL and reconstruction."""
    return [
      self.metric_names.terms["elbo"],
      f"{self.metric_names.nll} (K)",
      *(["bits/dim"] if self.metric_names.bits else []),
    ]

  @property
  def best(self) -> dict[str, str | None]:
    """The names of the runs with the best test `elbo` and `nll`; None where there is nothing to compare."""
    counts = {row["test"].get("num_examples") for row in self.rows if row["test"]}
    same = len(counts) == 1 and self.same_images
    elbos = {row["name"]: row["test"]["elbo"] for row in self.rows if row["test"] and same}
    nlls = {row["name"]: row["test"]["nll"] for row in self.rows if row["test"] and "nll" in row["test"]}
    return {
      "elbo": max(elbos, key=elbos.get) if len(elbos) > 1 else None,
      "nll": min(nlls, key=nlls.get) if len(nlls) > 1 and not self.unequal else None,
    }

  @property
  def same_images(self) -> bool:
    """Returns True if all runs had the same images: a folder may have grown between them."""
    return len({row["images"] for row in self.rows}) < 2

  @property
  def unequal(self) -> list[str]:
    """In what the NLLs of the table differ."""
    measured = [row["test"] for row in self.rows if row["test"] and "nll" in row["test"]]
    differences = [] if self.same_images else ["the images, or in where these were read from"]
    if len({test["nll_samples"] for test in measured}) > 1:
      differences.append("K, and a smaller K gives a looser bound")
    if len({test.get("num_examples") for test in measured}) > 1:
      counts = [number(test.get("num_examples"), 0) for test in measured]
      differences.append(f"the number of test images ({', '.join(counts)})")
    return differences

  @property
  def notes(self) -> list[str]:
    """What a reader must know about this table."""
    notes = [BINARIZATION[self.protocol.binarization], *([self.metric_names.note] if self.metric_names.note else [])]
    notes += [
      f"The {self.metric_names.nll}s differ in {difference}: none is marked as the best." for difference in self.unequal
    ]
    if any(row["num_seeds"] > 1 for row in self.rows):
      notes.append(
        "A run of several seeds shows their mean ± their standard deviation (n - 1), of NLL too; each seed is measured"
        " at its own best epoch, and parameters are those of one."
      )
    if any(row["status"] != "finished" for row in self.rows):
      notes.append(
        "An unfinished run still trains or was stopped. What has no results yet shows the minutes so far and the"
        " validation figures of its best epoch so far."
      )
    return notes


def tables(runs: Sequence[Run]) -> list[Table]:
  """A table per protocol, in the order in which the runs are given."""
  protocols = dict.fromkeys(run.protocol for run in runs)
  return [Table(protocol, [run.row() for run in runs if run.protocol == protocol]) for protocol in protocols]


def protocol(compared: Sequence[Table]) -> str:
  """How the figures of the tables came about, under the names that they have there."""
  names = [{**table.metric_names.terms, "nll": table.metric_names.nll} for table in compared]
  return PROTOCOL.format(**{key: " or ".join(dict.fromkeys(each[key] for each in names)) for key in names[0]})


def to_json(compared: Sequence[Table]) -> str:
  """Full precision; every number of a run is the one that its own files hold."""
  whole = [
    {
      "dataset": table.protocol.dataset,
      "image_size": table.protocol.image_size,
      "binarization": table.protocol.binarization,
      "likelihood": table.metric_names.likelihood,
      "notes": table.notes,
      "best": table.best,
      "runs": table.rows,
    }
    for table in compared
  ]
  return json.dumps({"units": "nats per image", "protocol": protocol(compared), "tables": whole}, indent=2) + "\n"


def to_markdown(compared: Sequence[Table]) -> str:
  return "\n".join(
    ["# Comparison", "", protocol(compared), "", *(line for table in compared for line in markdown_table(table))]
  )


def markdown_table(table: Table) -> list[str]:
  head = ["run", "model", "parameters", "epochs", "minutes", "images/s"]
  head += [f"{split} {' / '.join(table.metric_names.terms.values())}" for split in SPLITS]
  head += [f"test {name}" for name in table.test_names[1:]]
  lines = [f"## {plain(table.title)}", "", markdown_row(head), markdown_row(["---"] * 2 + ["---:"] * (len(head) - 2))]
  for row in table.rows:
    status = "" if row["status"] == "finished" else f" ({row['status']})"
    terms = {split: [with_spread(row, split, term) for term in TERMS] for split in SPLITS}
    if row["name"] == table.best["elbo"]:
      terms["test"][0] = f"**{terms['test'][0]}**"
    nll = f"**{likelihood(row)}**" if row["name"] == table.best["nll"] else likelihood(row)
    cells = [plain(row["name"]) + status, plain(row["model"]), *facts(row)]
    bits = [bits_per_dim(row)] if table.metric_names.bits else []
    lines.append(markdown_row([*cells, *(" / ".join(terms[split]) for split in SPLITS), nll, *bits]))
  return [*lines, "", *(line for note in table.notes for line in (note, ""))]


def markdown_row(cells: Sequence[str]) -> str:
  return f"| {' | '.join(cells)} |"


def plain(text: str) -> str:
  """Text from a file or a directory's name, with no meaning in Markdown."""
  return re.sub(r"([\\`*_\[\]<>|&#~])", r"\\\1", " ".join(text.split()))


def headline(row: MetricsRow, metric_names: MetricNames) -> list[str]:
  """Name, epochs, minutes, test ELBO and test NLL, as text, and bits per dimension where they belong there."""
  _, epochs, minutes, _ = facts(row)
  name = row["name"] + (f" ({row['num_seeds']} seeds)" if row["num_seeds"] > 1 else "")
  bits = [bits_per_dim(row)] if metric_names.bits else []
  return [name, epochs, minutes, with_spread(row, "test", "elbo"), likelihood(row), *bits]


def facts(row: MetricsRow) -> list[str]:
  """Parameters, epochs, minutes and images/s as text."""
  epochs, asked = row["epochs"] or 0, row["epochs_asked"]
  speed = row["images_per_second"]
  return [
    number(row["parameters"], 0),
    number(epochs, 0) if epochs >= asked else f"{epochs} of {asked}",
    number(row["minutes"], 1),
    number(speed, 0),
  ]


def likelihood(row: MetricsRow) -> str:
  """The test NLL with K."""
  test = row["test"] or {}
  return f"{with_spread(row, 'test', 'nll')} ({test['nll_samples']})" if "nll" in test else "-"


def bits_per_dim(row: MetricsRow) -> str:
  """Of the test bound and of the test NLL."""
  return " / ".join(with_spread(row, "test", name, digits=3) for name in ("bits_per_dim", "nll_bits_per_dim"))
