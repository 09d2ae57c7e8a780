"""Memory and time of DRAW: every variant is a program of its own."""

import argparse

from benchmarks import draw_memory
from latentjax.cli import benchmark


def test_variants_are_changes_to_config_and_plan(monkeypatch):
  monkeypatch.setattr(benchmark, "MIN_SECONDS", 0.001)
  variants = ["model.remat=none", "model.remat=step,peel_last=False"]
  options = argparse.Namespace(config="draw:demo", variants=variants, batch_size=2, measurements=1)
  measured = draw_memory.measure(2, options)
  assert len(measured) == len(variants)
  assert all(mebibytes > 0 and ms > 0 for mebibytes, ms in measured)
  assert len({mebibytes for mebibytes, _ in measured}) == len(variants)  # all programs differ
