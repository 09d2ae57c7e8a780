"""Whole processes, killed and stopped from outside: what the next one makes of it."""

import random
import signal
from pathlib import Path

from benchmarks import survive


def test_killed_at_three_random_moments_and_stopped_once_it_ends_identical(tiny_cache, tmp_path, monkeypatch):
  """The third kill is likely to be in a checkpoint."""
  monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "0")  # the very programs that users run
  whole, workdir = tmp_path / "whole", tmp_path / "killed"
  survive.finish(tiny_cache, whole)
  # Counted in checkpoints and not in seconds: 24 epochs then suffice however loaded the machine is.
  moments = [(random.uniform(0, 0.05), random.randint(1, 4)) for _ in range(2)] + [(0.0, random.randint(1, 3))]
  happened = [survive.kill(tiny_cache, workdir, *moment) for moment in moments]

  process = survive.start(tiny_cache, workdir)
  survive.wait_for(process, workdir, "*", survive.listing(workdir))
  process.send_signal(signal.SIGTERM)
  assert process.wait(timeout=300) == 143, happened
  last = Path(f"{workdir}.log").read_text().splitlines()[-1]
  assert last.startswith("stopped; resume with: ")
  assert f"python {survive.ROOT / 'main.py'} --config=configs/vae.py" in last
  assert last.endswith(f"--workdir={workdir}")

  survive.finish(tiny_cache, workdir)
  assert survive.differences(survive.outcome(workdir), survive.outcome(whole)) == [], (moments, happened)
  assert "Traceback" not in Path(f"{workdir}.log").read_text()
