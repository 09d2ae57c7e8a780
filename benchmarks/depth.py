"""Memory and time of a training step of DRAW, by T and by how it is computed, as a Markdown table.

    python -m benchmarks.depth [--config draw:filterbank] [--num-steps 16 64 256 1024] [--batch-size 128]
    python -m benchmarks.depth --num-steps 10 --ways weight_gradients=per_step weight_gradients=deferred,unroll=10

A way is a list of changes to the config (`model.remat=step`) or to the plan that this backend has by default
(`weight_gradients=deferred`); without `--ways` they are the values of `model.remat`. Memory is what the compiled step
says of its temporary arrays; time is the median of a few calls of at least two steps, taken by turns of all ways,
after one that does not count.
"""

import argparse

import numpy as np

from benchmarks.arguments import changed_plan, named_config, positive

REMAT = ("model.remat=none", "model.remat=step", "model.remat=sqrt")
IMAGES = (28, 28, 1)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--config", default="draw:filterbank", metavar="FILE:VARIANT", help="of configs/, a DRAW")
  parser.add_argument("--num-steps", nargs="+", type=positive, default=[16, 64, 256, 1024], metavar="T")
  parser.add_argument("--ways", nargs="+", default=REMAT, metavar="KEY=VALUE,...", help="changes to config or plan")
  parser.add_argument("--batch-size", type=positive, default=128)
  parser.add_argument("--measurements", type=positive, default=5)
  options = parser.parse_args()
  if named_config(options.config).model.name != "draw":
    parser.error(f"--config: {options.config} is no DRAW")
  print("| T | " + " | ".join(f"{way}: MiB | ms per step" for way in options.ways) + " |")
  print("|---" * (1 + 2 * len(options.ways)) + "|")
  for num_steps in options.num_steps:
    cells = [f"{mebibytes:,.0f} | {ms:,.0f}" for mebibytes, ms in measure(num_steps, options)]
    print(f"| {num_steps} | " + " | ".join(cells) + " |", flush=True)


def measure(num_steps: int, options: argparse.Namespace) -> list[tuple[float, float]]:
  """Temporary MiB and milliseconds per step of each way."""
  import jax

  from latentjax import models
  from latentjax.cli.benchmark import SHORTEST, create_workload, seconds_of

  images = np.random.default_rng(0).integers(0, 256, (2 * options.batch_size, *IMAGES), np.uint8)
  workloads, counts = [], []
  for way in options.ways:
    changes = way.split(",")
    keys = [change for change in changes if change.startswith("model.")]
    config = named_config(options.config, [f"model.num_steps={num_steps}", *keys])
    model = models.create_model(config.model, IMAGES)
    fields = ",".join(change for change in changes if change not in keys)
    model = model.clone(plan=changed_plan(model.plan_for(jax.default_backend()), fields))
    workloads.append(create_workload(config, model, images, options.batch_size))
    few = workloads[-1].few
    workloads[-1].call(few)
    seconds = seconds_of(workloads[-1].call, few) / few
    counts.append(max(few, round(SHORTEST / seconds)))  # a call allocates its memory anew
    workloads[-1].call(counts[-1])
  seconds = [
    [seconds_of(workload.call, count) / count for workload, count in zip(workloads, counts, strict=True)]
    for _ in range(options.measurements)
  ]
  memory = [workload.compiled.memory_analysis().temp_size_in_bytes / 2**20 for workload in workloads]
  return list(zip(memory, 1e3 * np.median(seconds, axis=0), strict=True))


if __name__ == "__main__":
  main()
