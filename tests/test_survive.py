"""Whole processes, killed and stopped from outside: what the next one makes of it."""

import random
import signal
from pathlib import Path

import pytest

from benchmarks import survive


@pytest.fixture(scope="module")
def whole(tiny_cache, tmp_path_factory) -> tuple[dict, float]:
  """The outcome of a run that nothing disturbed, and the seconds from its first checkpoint to its end."""
  workdir = tmp_path_factory.mktemp("runs") / "whole"
  seconds = survive.finish(tiny_cache, workdir)
  return survive.outcome(workdir), seconds


def test_killed_at_three_random_moments_it_ends_identical(whole, tiny_cache, tmp_path):
  expected, seconds = whole
  workdir = tmp_path / "killed"
  moments = [(random.uniform(0, seconds / 3), 0), (random.uniform(0, 0.05), random.randint(1, 5)), (0.0, 1)]
  happened = [survive.kill(tiny_cache, workdir, *moment) for moment in moments]
  survive.finish(tiny_cache, workdir)
  assert survive.outcome(workdir) == expected, (moments, happened)


def test_stopped_it_says_how_to_go_on_and_ends_identical(whole, tiny_cache, tmp_path):
  expected, _ = whole
  workdir = tmp_path / "stopped"
  process = survive.start(tiny_cache, workdir)
  survive.wait_for(process, workdir, "*", set())
  process.send_signal(signal.SIGTERM)
  assert process.wait(timeout=30) == 143
  said = Path(f"{workdir}.log").read_text()
  assert "Traceback" not in said
  assert f"stopped; go on with: python {survive.ROOT / 'main.py'} --config=configs/vae.py" in said
  assert said.splitlines()[-1].endswith(f"--workdir={workdir}")
  survive.finish(tiny_cache, workdir)
  assert survive.outcome(workdir) == expected
