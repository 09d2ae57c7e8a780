"""Kills small trainings with SIGKILL, resumes them with the same command, and counts the identical results.

    python -m benchmarks.kill_and_resume [--kills=25]    # on the CPU, unless JAX_PLATFORMS names another device

Every other kill hits a checkpoint that is being written; the others come at any time from the first checkpoint to the
end of the run. Results are identical if metrics.jsonl and results.json (without timings), the images and every bit of
the kept checkpoints are equal to those of a run that was not interrupted.
"""

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

from benchmarks.common import create_parser, positive

ROOT = Path(__file__).resolve().parents[1]
TIMINGS = ("images_per_second", "seconds", "train_minutes", "evaluate_minutes")
FLAGS = [
  "--config=vae",
  "--config.data.name=tiny",
  "--config.train.batch_size=16",
  "--config.train.epochs=24",
  "--config.train.steps_per_call=2",
  "--config.model.hidden_dims=(8,)",
  "--config.eval.nll_samples=3",
  "--config.sample.num_images=3",
]


def write_images(cache: Path) -> None:
  """Writes a dataset `tiny` of 48 / 20 / 20 random images into the cache directory."""
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
  """Trains to the end; returns the seconds since the first change of the checkpoints."""
  process = start(cache, workdir)
  wait_for(process, workdir, "*", listing(workdir))
  start_time = time.perf_counter()
  if process.wait(timeout=600) != 0:
    raise RuntimeError((workdir.parent / f"{workdir.name}.log").read_text()[-2000:])
  return time.perf_counter() - start_time


def kill(cache: Path, workdir: Path, seconds: float, in_checkpoint: int) -> str:
  """Starts or resumes a run and kills it; returns a description of the moment.

  The moment is `seconds` after its first checkpoint, or after a further `in_checkpoint` have begun to be written.
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
  writing = "while writing a checkpoint, " if any(not name.isdecimal() for name in listing(workdir)) else ""
  return f"{writing}after epoch {epochs}" if code < 0 else "after its end"


def listing(workdir: Path) -> set[str]:
  folder = workdir / "checkpoints"
  return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def wait_for(process: subprocess.Popen, workdir: Path, pattern: str, known: set[str]) -> None:
  """Waits until a checkpoint that is not in `known` matches the pattern, or the process ends."""
  while process.poll() is None:
    if any(Path(name).match(pattern) for name in listing(workdir) - known):
      return
    time.sleep(0.003)  # shorter than the writing of a checkpoint, and polling takes the training's time


def outcome(workdir: Path) -> dict:
  """Returns everything that must not depend on interruptions."""
  lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
  results = json.loads((workdir / "results.json").read_text())
  for tree in (*lines, results):
    for name in TIMINGS:
      tree.pop(name, None)
  result = {"metrics": lines, "results": results}
  for path in sorted(workdir.glob("*.png")):
    result[path.name] = path.read_bytes()
  orbax = ocp.PyTreeCheckpointer()
  for folder in sorted((workdir / "checkpoints").iterdir()):
    saved = orbax.metadata(folder / "state").item_metadata.tree
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), saved)
    arrays = jax.tree.leaves_with_path(orbax.restore(folder / "state", restore_args=as_numpy))
    result[folder.name] = {jax.tree_util.keystr(path): (str(x.dtype), x.shape, x.tobytes()) for path, x in arrays}
  return result


def differences(result: dict, expected: dict) -> list[str]:
  """Returns the names of two outcomes' entries that differ."""
  return [name for name in result.keys() | expected.keys() if result.get(name) != expected.get(name)]


def main() -> None:
  logging.set_verbosity(logging.FATAL)
  parser = create_parser(__doc__)
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
      caught += at.startswith("while")
      finish(cache, workdir)
      different = differences(outcome(workdir), expected)
      identical += not different
      print(
        f"{number:>3}/{kills}  killed {at}: {', '.join(different) + ' DIFFER' if different else 'identical'}",
        flush=True,
      )
  print(f"{identical} of {kills} runs ended with identical results; {caught} were killed while writing a checkpoint")
  sys.exit(identical != kills)


if __name__ == "__main__":
  main()
