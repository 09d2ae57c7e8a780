"""Runs that are killed and stopped from outside, and resumed."""

import random
import signal
from pathlib import Path

from benchmarks import kill_and_resume as kr


def test_a_run_that_is_killed_three_times_and_stopped_once_ends_identical(tiny_cache, tmp_path, monkeypatch):
  """The third kill is likely to be in a checkpoint. Images are fed from the host, in calls of another length."""
  monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "0")  # the very programs that users run
  monkeypatch.delenv("XLA_FLAGS")
  whole, workdir = tmp_path / "whole", tmp_path / "killed"
  kr.finish(tiny_cache, whole)
  other = ["--config.data.placement=host", "--config.train.steps_per_call=1"]
  monkeypatch.setattr(kr, "FLAGS", [*kr.FLAGS, *other])
  # Counted in checkpoints and not in seconds: 24 epochs then suffice however loaded the machine is.
  moments = [(random.uniform(0, 0.05), random.randint(1, 3)) for _ in range(2)] + [(0.0, 1)]
  happened = [kr.kill(tiny_cache, workdir, *moment) for moment in moments]

  process = kr.start(tiny_cache, workdir)
  kr.wait_for(process, workdir, "*", kr.listing(workdir))
  process.send_signal(signal.SIGTERM)
  assert process.wait(timeout=300) == 143, happened
  last = Path(f"{workdir}.log").read_text().splitlines()[-1]
  assert last.startswith("stopped; resume with: ")
  assert f"python {kr.ROOT / 'main.py'} --config=vae" in last
  assert last.endswith(f"--workdir={workdir}")

  kr.finish(tiny_cache, workdir)
  assert kr.differences(kr.outcome(workdir), kr.outcome(whole)) == [], (
    moments,
    happened,
  )
  assert "Traceback" not in Path(f"{workdir}.log").read_text()
