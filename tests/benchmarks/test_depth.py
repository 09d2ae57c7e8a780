"""Depth in time: every way is measured, and computed as it is named."""

import argparse

from benchmarks import depth


def test_ways_are_changes_to_config_and_plan():
  ways = ["model.remat=none", "model.remat=step", "attention_impl=gpu,peel_last=False"]
  options = argparse.Namespace(config="draw:demo", ways=ways, batch_size=2, measurements=1)
  measured = depth.measure(3, options)
  assert len(measured) == len(ways)
  assert all(mebibytes > 0 and ms > 0 for mebibytes, ms in measured)
  assert len({mebibytes for mebibytes, _ in measured}) == len(ways)  # no two are one program
