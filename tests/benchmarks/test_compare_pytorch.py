"""Interleaved times and their table: ratios compare times of the same round."""

import pytest

from benchmarks.compare_pytorch import Contestant, create_table, interleave


def test_contestants_alternate_in_calls_of_training_length():
  calls = []

  def contestant(name, seconds):
    return Contestant(lambda count, steps: calls.append((name, count, steps)) or seconds * count * steps, 2, "cpu")

  contestants = {"latentjax": contestant("latentjax", 0.01), "torch": contestant("torch", 0.02)}
  times = interleave(contestants, rounds=3, turn_seconds=1.0, max_steps=50)
  assert times == {"latentjax": pytest.approx([10] * 3), "torch": pytest.approx([20] * 3)}
  assert calls[-6:] == [("latentjax", 2, 50), ("torch", 1, 50)] * 3
  with pytest.raises(ValueError, match="latentjax on cpu, torch on gpu"):
    interleave(contestants | {"torch": contestants["torch"]._replace(device="gpu")}, 3, 1.0, 50)
  with pytest.raises(ValueError, match="nothing to compare"):
    interleave({"latentjax": contestants["latentjax"]}, 3, 1.0, 50)


def test_ratios_are_of_the_same_round():
  times = {"latentjax": [1.0, 2.0, 4.0], "torch eager": [3.0, 4.0, 6.0]}
  table = create_table([{"config": "vae:default", "times_ms": times}], 128, "")
  cells = {column.header: list(column.cells) for column in table.columns}
  assert cells["step"] == ["latentjax", "torch eager"]
  assert cells["ms"] == ["2.00", "4.00"]
  assert cells["images/s"] == ["64,000", "32,000"]
  ratios = [cells[name] for name in ("x latentjax", "least", "greatest")]
  assert ratios == [["1.00", "2.00"], ["1.00", "1.50"], ["1.00", "3.00"]]
