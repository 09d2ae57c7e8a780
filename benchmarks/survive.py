"""Kills tiny trainings with SIGKILL, lets the same command finish them, and counts how many end identical.

Every other kill waits for a checkpoint that is half written; the rest come at any time from the first checkpoint to
the end of the run. Identical means: metrics.jsonl and results.json apart from timings, the pictures, and every bit of
the states kept: the two newest and the best.

    python -m benchmarks.survive [--kills=25]      # on the CPU, unless JAX_PLATFORMS names another device
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from benchmarks.arguments import positive

ROOT = Path(__file__).resolve().parents[1]
TIMINGS = ("images_per_second", "seconds", "train_minutes", "evaluate_minutes")
FLAGS = [
  "--config=configs/vae.py",
  "--config.data.name=tiny",
  "--config.train.batch_size=16",
  "--config.train.epochs=24",
  "--config.train.steps_per_call=2",
  "--config.model.hidden_dims=(8,)",
  "--config.eval.nll_samples=3",
  "--config.sample.num_images=3",
]


def write_images(cache: Path) -> None:
  """A set called `tiny` of 48 / 20 / 20 random images, where a run looks for decoded sets."""
  generator = np.random.default_rng(0)
  sizes = {"train": 48, "validation": 20, "test": 20}
  splits = {split: generator.integers(0, 256, (size, 28, 28, 1), np.uint8) for split, size in sizes.items()}
  np.savez(cache / "tiny.npz", **splits)


def start(cache: Path, workdir: Path) -> subprocess.Popen:
  environment = {"JAX_PLATFORMS": "cpu"} | os.environ | {"LATENTJAX_CACHE_DIR": str(cache)}
  command = [sys.executable, str(ROOT / "main.py"), *FLAGS, f"--workdir={workdir}"]
  with (workdir.parent / f"{workdir.name}.log").open("a") as log:
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)


def finish(cache: Path, workdir: Path) -> float:
  """Runs to the end; returns the seconds from its first change of the checkpoints to there."""
  process = start(cache, workdir)
  wait_for(process, workdir, "*", listing(workdir))
  began = time.perf_counter()
  if process.wait(timeout=600) != 0:
    raise RuntimeError((workdir.parent / f"{workdir.name}.log").read_text()[-2000:])
  return time.perf_counter() - began


def kill(cache: Path, workdir: Path, seconds: float, in_checkpoint: int) -> str:
  """Starts or resumes a run and kills it; returns at what.

  Args:
    seconds: to wait after the run first changed its checkpoints.
    in_checkpoint: then also wait for so many to be begun; 0 for none.
  """
  process = start(cache, workdir)
  wait_for(process, workdir, "*", listing(workdir))
  for _ in range(in_checkpoint):
    wait_for(process, workdir, "*.unfinished", listing(workdir))
  time.sleep(seconds)
  process.kill()
  code = process.wait()
  log = workdir / "metrics.jsonl"
  epochs = len(log.read_text().splitlines()) if log.exists() else 0
  half = "in a checkpoint, " if any(not name.isdecimal() for name in listing(workdir)) else ""
  return f"{half}after epoch {epochs}" if code < 0 else "after its end"


def listing(workdir: Path) -> set[str]:
  folder = workdir / "checkpoints"
  return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def wait_for(process: subprocess.Popen, workdir: Path, pattern: str, known: set[str]) -> None:
  """Returns once the checkpoints hold a name that is new and fits the pattern, or the process has ended."""
  while process.poll() is None:
    if any(Path(name).match(pattern) for name in listing(workdir) - known):
      return
    time.sleep(0.001)


def outcome(workdir: Path) -> dict:
  """All that must be the same whatever happened to a run on its way."""
  lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
  results = json.loads((workdir / "results.json").read_text())
  for tree in (*lines, results):
    for name in TIMINGS:
      tree.pop(name, None)
  found = {"metrics": lines, "results": results}
  for path in sorted(workdir.glob("*.png")):
    found[path.name] = path.read_bytes()
  orbax = ocp.PyTreeCheckpointer()
  for folder in sorted((workdir / "checkpoints").iterdir()):
    saved = orbax.metadata(folder / "state").item_metadata.tree
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), saved)
    arrays = jax.tree.leaves_with_path(orbax.restore(folder / "state", restore_args=as_numpy))
    found[folder.name] = {jax.tree_util.keystr(path): (str(x.dtype), x.shape, x.tobytes()) for path, x in arrays}
  return found


def differences(found: dict, expected: dict) -> list[str]:
  """What of two outcomes is not the same, by name: state bytes would fill the screen."""
  return [name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)]


def main() -> None:
  logging.set_verbosity(logging.FATAL)
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--kills", type=positive, default=25)
  kills = parser.parse_args().kills
  with tempfile.TemporaryDirectory() as directory:
    cache = Path(directory)
    write_images(cache)
    duration = finish(cache, cache / "whole")
    expected, identical, caught = outcome(cache / "whole"), 0, 0
    for number in range(1, kills + 1):
      workdir = cache / str(number)
      if number % 2:
        at = kill(cache, workdir, random.uniform(0, 0.05), in_checkpoint=random.randint(1, 30))
      else:
        at = kill(cache, workdir, random.uniform(0, duration), in_checkpoint=0)
      caught += at.startswith("in")
      finish(cache, workdir)
      different = differences(outcome(workdir), expected)
      identical += not different
      print(
        f"{number:>3}/{kills}  killed {at}: {', '.join(different) + ' DIFFER' if different else 'identical'}",
        flush=True,
      )
  print(f"{identical} of {kills} runs ended identical; {caught} were killed in the middle of a checkpoint")
  sys.exit(identical != kills)


if __name__ == "__main__":
  main()
