"""Prints memory and time of DRAW's training step for several T and execution plans, as a Markdown table.

    python -m benchmarks.draw_memory [--config draw:filterbank] [--num-steps 16 64 256 1024] [--batch-size 128]
    python -m benchmarks.draw_memory --num-steps 10 --variants weight_gradients=per_step weight_gradients=deferred

A variant is a list of changes to the config (`model.remat=step`) or to the backend's default `ExecutionPlan`
(`weight_gradients=deferred,unroll=10`). Memory is that of the compiled step's temporary arrays. Time is the median of
interleaved calls of at least two steps, after a warm-up.
"""

import argparse

import numpy as np

from benchmarks.common import IMAGE_SHAPE, change_plan, create_parser, load_config, positive, random_images

REMAT = ("model.remat=none", "model.remat=step", "model.remat=sqrt")


def main() -> None:
  parser = create_parser(__doc__)
  parser.add_argument("--config", default="draw:filterbank", metavar="FILE:VARIANT", help="of configs/, a DRAW")
  parser.add_argument("--num-steps", nargs="+", type=positive, default=[16, 64, 256, 1024], metavar="T")
  parser.add_argument("--variants", nargs="+", default=REMAT, metavar="KEY=VALUE,...", help="default: all of remat")
  parser.add_argument("--batch-size", type=positive, default=128)
  parser.add_argument("--measurements", type=positive, default=5)
  options = parser.parse_args()
  if load_config(options.config).model.name != "draw":
    parser.error(f"--config: {options.config} is not a DRAW")
  print("| T | " + " | ".join(f"{variant}: MiB | ms per step" for variant in options.variants) + " |")
  print("|---" * (1 + 2 * len(options.variants)) + "|")
  for num_steps in options.num_steps:
    cells = [f"{mebibytes:,.0f} | {ms:,.0f}" for mebibytes, ms in measure(num_steps, options)]
    print(f"| {num_steps} | " + " | ".join(cells) + " |", flush=True)


def measure(num_steps: int, options: argparse.Namespace) -> list[tuple[float, float]]:
  """Returns temporary MiB and milliseconds per step of each variant."""
  import jax

  from latentjax import models
  from latentjax.cli.benchmark import MIN_SECONDS, create_workload, time_call

  images = random_images(options.batch_size)
  workloads, counts = [], []
  for variant in options.variants:
    changes = variant.split(",")
    keys = [change for change in changes if change.startswith("model.")]
    config = load_config(options.config, [f"model.num_steps={num_steps}", *keys])
    model = models.create_model(config.model, IMAGE_SHAPE)
    fields = ",".join(change for change in changes if change not in keys)
    model = model.clone(plan=change_plan(model.plan_for(jax.default_backend()), fields))
    workload = create_workload(config, model, images, options.batch_size)
    workload.call(workload.warmup_steps)
    seconds = time_call(workload.call, workload.warmup_steps) / workload.warmup_steps
    workloads.append(workload)
    counts.append(max(workload.warmup_steps, round(MIN_SECONDS / seconds)))  # a call allocates its memory anew
    workload.call(counts[-1])
  seconds = [
    [time_call(workload.call, count) / count for workload, count in zip(workloads, counts, strict=True)]
    for _ in range(options.measurements)
  ]
  memory = [workload.compiled.memory_analysis().temp_size_in_bytes / 2**20 for workload in workloads]
  return list(zip(memory, 1e3 * np.median(seconds, axis=0), strict=True))


if __name__ == "__main__":
  main()
