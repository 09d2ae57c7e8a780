"""Measures latentjax on an accelerator, the most valuable numbers first, until the time limit.

    python -m benchmarks.accelerator --minutes=8 --out=DIR [--parts steps pytorch ...] [--again]
    python -m benchmarks.accelerator --rehearse --out=DIR    # all measurements with tiny models, also on a CPU

Writes DIR/results.jsonl and DIR/report.md after every measurement. Run the same command again to continue after the
time limit, Ctrl-C or SIGTERM. See docs/accelerator.md.
"""

import os
import time
from functools import partial
from pathlib import Path

from benchmarks.accelerator.session import GRACE, Results, Watchdog, run_measurements
from benchmarks.common import create_parser, positive

PARTS = {  # title, and the decision that its numbers serve
  "steps": "Training steps: is a model bound by arithmetic, or by launches that graphs and fusion save?",
  "pytorch": "Training steps of PyTorch and latentjax: which are faster, and by how much?",
  "plan": "Execution plans of DRAW: does a GPU need its own attention, deferred weight gradients and an unrolled loop?",
  "seeds": "Several seeds in one program: how many does a device train in the time of one?",
  "batch": "Large batches: where does throughput stop growing?",
  "precision": "Precisions of matrix products: is the default of float32 worth its time?",
  "conv": "Convolutional Ladder VAE: does XLA's own gradient of a kernel suffice?",
  "target": "DRAW trained to the ELBO of the original project: how long does it take from scratch?",
  "paper": "DRAW with the settings of its paper, trained until the time is up",
}


def main() -> None:
  start = time.monotonic()
  parser = create_parser(__doc__, prog="python -m benchmarks.accelerator")
  parser.add_argument("--minutes", type=positive, default=8, help="time limit")
  parser.add_argument("--out", type=Path, required=True, metavar="DIR")
  parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="measure only these")
  parser.add_argument("--again", action="store_true", help="repeat failed measurements")
  parser.add_argument("--rehearse", action="store_true", help="tiny models and few repetitions")
  options = parser.parse_args()
  deadline = start + 60 * options.minutes
  options.out.mkdir(parents=True, exist_ok=True)
  os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(options.out.resolve() / "compiled"))
  os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
  os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # leaves memory for PyTorch in this process
  results = Results(options.out / "results.jsonl", options.again)
  watchdog = Watchdog(results, deadline)  # before JAX is imported, which may hang

  from benchmarks.accelerator import measurements, report

  if problem := measurements.check_machine(results, options.rehearse):
    parser.error(problem)
  table = measurements.list_measurements(options.rehearse)

  def show(line: dict) -> None:
    report.write(options.out / "report.md", results.lines.values(), PARTS, len(table))
    print(f"{deadline - time.monotonic():>5.0f} s left  {line['name']}: {line['status']} {line['reason']}", flush=True)

  results.on_add = show
  measure = partial(measurements.measure, options=options, results=results, watchdog=watchdog)
  wanted = (each for each in table if each.part in options.parts)
  complete = run_measurements(wanted, results, measure, lambda: deadline - GRACE - time.monotonic())
  print("Nothing is left to measure." if complete else "Time is up. Run the same command again to continue.")


if __name__ == "__main__":
  main()
