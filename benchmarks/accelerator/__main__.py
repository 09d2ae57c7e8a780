"""Measures latentjax on an accelerator, in order of worth, for so many minutes; called again, it goes on.

    python -m benchmarks.accelerator --minutes=9 --out=DIR [--data=DIR] [--parts steps peers ...] [--again]
    python -m benchmarks.accelerator --rehearse --out=DIR    # everything with tiny models, also on a CPU

Writes DIR/report.md and DIR/results.jsonl after every measurement. See docs/accelerator.md.
"""

import argparse
import os
import signal
import sys
import time
from pathlib import Path

from benchmarks.accelerator import process
from benchmarks.accelerator.log import Log
from benchmarks.accelerator.plan import PARTS, Place, plan
from benchmarks.accelerator.queue import HopelessError, Measurement, work_off
from benchmarks.accelerator.report import report
from benchmarks.arguments import positive


def main() -> None:
  style = argparse.RawDescriptionHelpFormatter
  parser = argparse.ArgumentParser("python -m benchmarks.accelerator", description=__doc__, formatter_class=style)
  parser.add_argument("--minutes", type=positive, default=9, help="after which all has ended")
  parser.add_argument("--out", type=Path, required=True, metavar="DIR")
  parser.add_argument("--data", type=Path, metavar="DIR", help="with decoded sets; by default the user's cache")
  parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="only these")
  parser.add_argument("--again", action="store_true", help="also what failed before")
  parser.add_argument("--rehearse", action="store_true", help="tiny models, to see that everything runs")
  options = parser.parse_args()
  until = time.monotonic() + 60 * options.minutes
  if options.data:
    if not options.data.is_dir():
      parser.error(f"--data: there is no directory {str(options.data)!r}")
    os.environ["LATENTJAX_CACHE_DIR"] = str(options.data.resolve())
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the measurement under way is ended, too
  work = options.out.resolve() / "work"
  work.mkdir(parents=True, exist_ok=True)
  os.environ["JAX_COMPILATION_CACHE_DIR"] = str(work / "compiled")  # measurements share programs, calls too
  os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
  os.environ["PYTHONUNBUFFERED"] = "1"

  log = Log(options.out / "results.jsonl", again=options.again)
  place = find(parser, log, work, options.rehearse)
  measurements = list(plan(place))
  queue = [measurement for measurement in measurements if measurement.part in options.parts]

  def written(line):
    (options.out / "report.md").write_text(report(log.lines, len(measurements)))
    print(f"{until - time.monotonic():>5.0f} s left  {line['name']}: {line['status']} {line['reason']}", flush=True)

  log.written = written

  def run(measurement: Measurement, seconds: float):
    return process.run(measurement, seconds, work)

  try:
    done = work_off(queue, log, run, lambda: until - time.monotonic() - process.GRACE)
  except HopelessError as error:
    raise SystemExit(
      f"error: all that was begun has failed, at last: {error}; {work} has what each said. Mend it, and --again"
    ) from None
  said = "nothing is left that can be measured here" if done else "the time is over: the same command goes on"
  print(f"{said}; {options.out / 'report.md'}")


def find(parser: argparse.ArgumentParser, log: Log, work: Path, rehearse: bool) -> Place:
  """The machine, found anew in every call: a directory has the measurements of one device."""
  measurement = Measurement("machine", "machine", ("benchmarks.accelerator.machine",), 0, 180, {"rehearsal": rehearse})
  outcome = process.run(measurement, measurement.limit, work)
  if outcome.problem or outcome.result is None:
    problem = outcome.problem or "it takes too long"
    raise SystemExit(f"error: JAX does not start here: {problem}; {work / 'machine.log'} has all that it said")
  device, platform = outcome.result["device"], outcome.result["platform"]
  if platform == "cpu" and not rehearse:
    parser.error("JAX finds no accelerator here, only a CPU: --rehearse goes through everything with tiny models")
  if not log.is_final("machine"):
    log.add(measurement, "measured", "", outcome.seconds, outcome.result)
  machine = log.lines[0]
  if machine["rehearsal"] != rehearse:
    parser.error(f"--out: it holds {'a rehearsal' if machine['rehearsal'] else 'measurements'}: choose another DIR")
  if machine["result"]["device"] != device:
    parser.error(
      f"--out: it holds measurements of a {machine['result']['device']}, and this is a {device}: another DIR"
    )
  return Place(device, platform, work, rehearse)


if __name__ == "__main__":
  main()
