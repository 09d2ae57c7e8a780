"""Times the training step of one config, and traces what the device does; a measurement's process.

python -m benchmarks.accelerator.step --config=draw:base --batch-size=128 --json=FILE [--trace=DIR]
"""

import argparse
import json
from pathlib import Path

import numpy as np

from benchmarks.arguments import named_config, new_file, positive
from latentjax.runtime.errors import last_line

IMAGES = (28, 28, 1)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--config", required=True, metavar="FILE:VARIANT", help="of configs/")
  parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="changes to it")
  parser.add_argument("--batch-size", type=positive, required=True)
  parser.add_argument("--measurements", type=positive, default=20, help="of which the median counts")
  parser.add_argument("--device", metavar="KIND", help="fail where JAX finds another one")
  parser.add_argument("--trace", type=Path, metavar="DIR", help="also trace a call, into this directory")
  parser.add_argument("--json", type=new_file, required=True, help="where the result is written")
  options = parser.parse_args()
  config = named_config(options.config, options.set)
  import jax

  from benchmarks.accelerator import trace
  from latentjax import models
  from latentjax.cli.benchmark import create_workload, measure_workload

  found = jax.devices()[0].device_kind
  if options.device and found != options.device:
    raise SystemExit(f"error: JAX finds {found}, and not {options.device}")
  num_images = options.batch_size * max(2, 4096 // options.batch_size)
  images = np.random.default_rng(0).integers(0, 256, (num_images, *IMAGES), np.uint8)
  workload = create_workload(config, models.create_model(config.model, IMAGES), images, options.batch_size)
  row = measure_workload(workload, options.batch_size, config.precision, options.measurements)
  write(options.json, row)  # before the trace, which may crash
  if options.trace:
    steps = row["steps_per_measurement"]
    try:
      summary = trace.summary(trace.traced(lambda: workload.call(steps), options.trace), steps)
    except Exception as error:  # whatever a profiler cannot do here: the times stand
      summary = {"trace_problem": last_line(error)}
    write(options.json, row | summary)


def write(path: Path, result: dict) -> None:
  unfinished = path.with_suffix(".tmp")
  unfinished.write_text(json.dumps(result) + "\n")
  unfinished.replace(path)


if __name__ == "__main__":
  main()
