"""Trains a config by main.py, until its validation ELBO has reached a value or to its end; a measurement's process.

    python -m benchmarks.accelerator.train --config=draw:base --workdir=DIR --until=-85.30 --json=FILE

Its result is written after every epoch. SIGTERM ends the training after a checkpoint, and the same call goes on.
"""

import argparse
import contextlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.arguments import new_file

POLL = 0.2  # seconds
MAIN = Path(__file__).resolve().parents[2] / "main.py"


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--config", required=True, metavar="FILE:VARIANT", help="of configs/")
  parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="changes to it")
  parser.add_argument("--workdir", type=Path, required=True, metavar="DIR")
  parser.add_argument("--until", type=float, metavar="NATS", help="validation ELBO at which to stop")
  parser.add_argument("--json", type=new_file, required=True, help="where the result is written")
  options = parser.parse_args()
  file, _, variant = options.config.partition(":")
  config = f"--config={MAIN.parent / 'configs' / file}.py:{variant}"
  changes = [f"--config.{change}" for change in options.set]
  began = time.monotonic()
  process = subprocess.Popen([sys.executable, str(MAIN), config, *changes, f"--workdir={options.workdir}"])
  signal.signal(signal.SIGTERM, lambda *_: process.terminate())  # then it ends by itself, and so does this loop
  while process.poll() is None:
    time.sleep(POLL)
    if report(options, time.monotonic() - began).get("reached"):
      process.terminate()
      process.wait()
  reached = report(options, time.monotonic() - began).get("reached")
  sys.exit(0 if reached else process.returncode)


def report(options: argparse.Namespace, seconds: float) -> dict:
  """Writes how far the training has come, and returns it.

  Args:
    seconds: since this call began, with all; those of the epochs are without start-up, the step's compilation and
      checkpoints.
  """
  lines = read_lines(options.workdir / "metrics.jsonl")
  if not lines:
    return {}
  at = next((line for line in lines if options.until and line["validation"]["elbo"] >= options.until), None)
  last = at or lines[-1]
  result = {
    "epochs": last["epoch"],
    "epoch_seconds": last["seconds"],
    "call_seconds": seconds,
    "validation_elbo": last["validation"]["elbo"],
    "best_validation_elbo": max(line["validation"]["elbo"] for line in lines[: last["epoch"]]),
    "images_per_second": last["images_per_second"],
    "until": options.until,
    "reached": at is not None,
  }
  with contextlib.suppress(OSError, ValueError):  # there at the end of training
    results = json.loads((options.workdir / "results.json").read_text())
    result["test"] = {key: results["test"][key] for key in ("elbo", "nll", "nll_stderr") if key in results["test"]}
  unfinished = options.json.with_suffix(".tmp")
  unfinished.write_text(json.dumps(result) + "\n")
  unfinished.replace(options.json)
  return result


def read_lines(path: Path) -> list[dict]:
  """The whole lines of a file that is being written."""
  with contextlib.suppress(OSError):
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]]
  return []


if __name__ == "__main__":
  main()
