"""Tables: the same cells in the terminal, in Markdown and in HTML, escaped in each."""

import dataclasses
import re
from html.parser import HTMLParser

from rich.console import Console

from latentjax.workdir.protocol import BINARY, DISCRETIZED
from latentjax.workdir.tables import Bold, Table, results_table, sweep_table

TABLE = Table(
  "Runs of [b]*mnist*</td>",
  ["run", "ELBO|KL"],
  [["[red]a|b", Bold("-1.5")], ["<i>&", "-2.5"]],
  "nats",
  ["A note."],
)


def printed(table: Table) -> str:
  console = Console(width=120, color_system=None, markup=False)
  with console.capture() as capture:
    console.print(table)
  return capture.get()


def cells(line: str) -> list[str]:
  return [cell.strip() for cell in re.split(r"[│┃]", line)[1:-1]]


def test_terminal():
  title, _, head, _, first, second, _, caption = printed(dataclasses.replace(TABLE, title="[b]runs")).splitlines()
  assert (title.strip(), caption.strip()) == ("[b]runs", "nats")
  assert [cells(line) for line in (head, first, second)] == [list(row) for row in (TABLE.columns, *TABLE.rows)]


def test_markdown():
  assert TABLE.to_markdown().splitlines() == [
    r"## Runs of \[b\]\*mnist\*\</td\>",
    "",
    r"| run | ELBO\|KL |",
    "| --- | ---: |",
    r"| \[red\]a\|b | **-1.5** |",
    r"| \<i\>\& | -2.5 |",
    "",
    "A note.",
  ]


def test_html():
  elements, texts = [], []

  class Parser(HTMLParser):
    def handle_starttag(self, tag, attrs):
      elements.append(tag)

    def handle_data(self, data):
      texts.append(data)

  Parser().feed(TABLE.to_html("h3"))
  assert "".join(elements) == "h3divtabletheadtrththtbodytrthtdstrongtrthtdp"
  found = [text for text in texts if text.strip()]
  assert found == [TABLE.title, *TABLE.columns, *TABLE.rows[0], *TABLE.rows[1], "A note."]


SPLIT = {"elbo": -1234.567, "kl": 20.0, "reconstruction": 1214.567, "elbo_stderr": 0.5, "bits_per_dim": 1.23456}


def test_results_have_a_row_per_split():
  test = SPLIT | {"nll": 1200.0, "nll_stderr": None, "nll_samples": 10, "nll_bits_per_dim": 1.2}
  table = results_table("vae", {"train": SPLIT, "test": test}, DISCRETIZED)
  assert table.rows == [
    ["train", "-1,234.57 ± 0.50", "20.00", "1,214.57", "-", "1.235", "-"],
    ["test", "-1,234.57 ± 0.50", "20.00", "1,214.57", "1,200.00 (K = 10)", "1.235", "1.200"],
  ]
  unknown = results_table("vae", {"test": test | {"elbo": None, "nll": None, "nll_stderr": None}}, BINARY)
  assert unknown.rows == [["test", "-", "20.00", "1,214.57", "-"]]
  std = {"train": dict.fromkeys(SPLIT, 0.1)}
  several = results_table("vae", {"train": SPLIT, "std": std, "seeds": {"1": {}, "2": {}}}, BINARY)
  assert several.rows == [["train", "-1,234.57 ± 0.10", "20.00 ± 0.10", "1,214.57 ± 0.10", "-"]]
  assert "over 2 seeds" in several.caption


def test_a_sweep_ranks_by_validation_elbo_and_lists_failures_last():
  def results(elbo: float) -> dict:
    return {"validation": {"elbo": elbo}, "test": {"elbo": elbo, "nll": -elbo}, "epoch": 2, "train_minutes": 1.0}

  unknown = results(-9.0) | {"validation": {"elbo": None}, "train_minutes": None}
  finished = {"unknown": unknown, "low": results(-9.0), "high": results(-8.0)}
  table = sweep_table("sweep", finished, {"bad": "out of memory"}, BINARY)
  assert table.rows == [
    ["high", "-8.00", "-8.00", "8.00", "2", "1.0"],
    ["low", "-9.00", "-9.00", "9.00", "2", "1.0"],
    ["unknown", "-", "-9.00", "9.00", "2", "-"],
    ["bad", "failed"],
  ]
