"""GPU kernel launches of one training step, counted in a program compiled for an H100 on a machine that has none.

    python -m benchmarks.launches --config=draw:filterbank [--set model.num_steps=64 ...] [--batch-size 128]
    python -m benchmarks.launches --config=draw:base --plan=weight_gradients=step,peel_last=True

Needs, beside latentjax, two wheels of the installed jax version and a compiler, in an environment of their own:

    pip install -r requirements.txt jax-cuda12-plugin==$JAX jax-cuda12-pjrt==$JAX nvidia-cuda-nvcc-cu12

Deterministic, so it guards against regressions where a timing cannot. No autotuning happens without a GPU: compare
these numbers with each other, not with a profiler's. A launch is a fusion, a library call, a copy or any other
operation on arrays; the body of a loop counts as often as the loop runs.
"""

import argparse
import importlib.util
import os
import re
from collections import Counter
from functools import cache
from pathlib import Path

from benchmarks.arguments import changed_plan, named_config, new_file, positive

H100 = """gpu_device_info { threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152
  shared_memory_per_core: 233472 threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535 memory_bandwidth: 3352320000000
  l2_cache_size: 52428800 clock_rate_ghz: 1.98 device_memory_size: 84929347584 shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 } registers_per_core_limit: 65536 registers_per_block_limit: 65536 }
runtime_version { major: 12 minor: 8 patch: 0 } platform_name: "CUDA" dnn_version_info { major: 9 minor: 7 }
device_description_str: "NVIDIA H100 80GB HBM3" """

NEEDED = ("jax_cuda12_plugin", "nvidia")
SHAPE = (28, 28, 1)
# What names, regroups or reinterprets arrays without a kernel.
FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", "replica-id"}
CALLS = {"call", "async-start"}  # one other computation, its launches counted there
COMPUTATION = re.compile(r"^(?:ENTRY )?%?(?P<name>[\w.\-]+) \(.*\{$")
OPERATION = re.compile(r"^\s*(?:ROOT )?%[\w.\-]+ = (?:\((?:[^()]|\([^()]*\))*\)|\S+) (?P<kind>[\w\-]+)\(")
CALLED = re.compile(r"(?:body|to_apply|calls|called_computation)=%?([\w.\-]+)")
TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')


def count_launches(text: str) -> Counter:
  """Launches by kind of operation in optimised HLO text; a loop of unknown length, as over training steps, counts once.

  Raises:
    ValueError: the text has no entry computation.
  """
  computations, entry, current = {}, None, None
  for line in text.splitlines():
    if start := COMPUTATION.match(line):
      current = computations.setdefault(start["name"], [])
      entry = start["name"] if line.startswith("ENTRY") else entry
    elif current is not None and (operation := OPERATION.match(line)):
      current.append((operation["kind"], line))
  if entry is None:
    raise ValueError("no ENTRY computation in this text")

  @cache
  def launches(name: str) -> Counter:
    total = Counter()
    for kind, line in computations[name]:
      if kind == "while" or kind in CALLS:
        trips = TRIPS.search(line)
        for inner, count in launches(CALLED.search(line)[1]).items():
          total[inner] += count * (int(trips[1]) if trips else 1)
      elif kind not in FREE and not kind.endswith("-done"):
        total[kind] += 1
    return total

  return launches(entry)


def compile_for_h100(config, model, batch_size: int) -> str:
  """Optimised HLO of `Steps.train` for an H100.

  Raises:
    SystemExit: what compiles for one is not installed.
  """
  if not all(map(importlib.util.find_spec, NEEDED)):
    raise SystemExit("error: nothing here compiles for an H100: `python -m benchmarks.launches --help` says what does")
  (nvidia,) = importlib.util.find_spec("nvidia").submodule_search_locations
  os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_cuda_data_dir={Path(nvidia, 'cuda_nvcc')}"
  import jax
  import jax.numpy as jnp
  from jax.experimental import topologies
  from jax.sharding import NamedSharding, PartitionSpec

  from latentjax.experiment import create_keys
  from latentjax.training.compiled import create_steps

  topology = topologies.get_topology_desc(platform="cuda", target_config=H100, topology="1x1x1")
  whole = NamedSharding(topologies.make_mesh(topology, (1,), ("x",)), PartitionSpec())
  count = 8 * batch_size
  config.train.batch_size = batch_size
  steps = create_steps(config, model, count)
  keys = jax.eval_shape(lambda: create_keys(config))
  arguments = (
    jax.eval_shape(steps.init, keys.init),
    jax.ShapeDtypeStruct((count, *SHAPE), jnp.uint8),
    jax.eval_shape(steps.order, keys.order, 0),
    keys.train,
  )
  placed = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), arguments)
  return steps.train.trace(*placed, 8).lower().compile().as_text()


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--config", default="draw:filterbank", metavar="FILE:VARIANT", help="of configs/")
  parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="changes to it")
  parser.add_argument("--plan", default="", metavar="FIELD=VALUE,...", help="changes to a DRAW's plan for a GPU")
  parser.add_argument("--batch-size", type=positive, default=128)
  parser.add_argument("--hlo", type=new_file, help="also write the program to this file")
  options = parser.parse_args()
  os.environ["JAX_PLATFORMS"] = "cpu"
  from latentjax import models

  config = named_config(options.config, options.set)
  model = models.create(config.model, SHAPE)
  if isinstance(model, models.DRAW):
    model = model.clone(plan=changed_plan(model.plan_for("gpu"), options.plan))
  elif options.plan:
    parser.error(f"--plan: {options.config} is no DRAW")
  text = compile_for_h100(config, model, options.batch_size)
  if options.hlo:
    options.hlo.write_text(text)
  launches = count_launches(text)
  kinds = ", ".join(f"{count} {kind}" for kind, count in launches.most_common())
  print(
    f"{' '.join([options.config, *options.set, options.plan]).strip()}: {launches.total()} launches per step ({kinds})"
  )


if __name__ == "__main__":
  main()
