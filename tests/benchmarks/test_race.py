"""The race's table: ratios of turns of the same round, not of medians of different minutes."""

from benchmarks.race import CONFIGS, table


def test_ratios_are_of_the_same_round():
  turns = {"latentjax": [1.0, 2.0, 4.0], "torch eager": [3.0, 4.0, 6.0]}
  out = table([{"config": CONFIGS[0], "turns": turns}], 128, "")
  cells = {column.header: list(column.cells) for column in out.columns}
  assert cells["step"] == ["latentjax", "torch eager"]
  assert cells["ms"] == ["2.00", "4.00"]
  assert cells["images/s"] == ["64,000", "32,000"]
  assert [cells[name] for name in ("x latentjax", "least", "greatest")] == [
    ["1.00", "2.00"],
    ["1.00", "1.50"],
    ["1.00", "3.00"],
  ]
