"""Compiles training steps for GPUs and TPUs that this machine does not have, and tabulates the programs.

    python -m benchmarks.cross_compile --config draw:base vae:default --target h100 h100x8 tpu-v5e tpu-v5e:16x16
    python -m benchmarks.cross_compile --config draw:filterbank --set model.num_steps=64 --plan unroll=2

`make compiled` installs the compilers into their own environment. Columns, all of one training step:

  launches    kernels, library calls, copies and other operations; a loop's body counts once per trip
  chain       the longest chain of launches that must wait for each other
  graphs      CUDA graphs, each one launch by the host, + launches outside of graphs
  small       kernels with fewer blocks than the GPU has cores
  at least    a bound: the greatest of the chain at 1.3 us a launch, matrix products at the maker's peak rate, and
              all-reduces at the rate of a device's links

Memory and arithmetic are per device. Autotuning needs the device: compare the numbers with each other only.
"""

import argparse
import importlib.util
import json
import math
import os
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.common import CONFIGS, change_plan, create_parser, load_config, output_file, positive
from benchmarks.hlo import Program, parse_thunks

STEPS = 39  # of a call, as in training on MNIST; no other loop has as many trips
COLUMNS = ("config", "devices", "launches", "chain", "graphs", "small (of one block)", "all-reduces: KiB")
COLUMNS += ("MiB", "GFLOP", "compiled in s", "at least, µs")

H100 = """gpu_device_info { threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152
  shared_memory_per_core: 233472 threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535 memory_bandwidth: 3352320000000
  l2_cache_size: 52428800 clock_rate_ghz: 1.98 device_memory_size: 84929347584 shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 } registers_per_core_limit: 65536 registers_per_block_limit: 65536 }
runtime_version { major: 12 minor: 8 patch: 0 } platform_name: "CUDA" dnn_version_info { major: 9 minor: 7 }
device_description_str: "NVIDIA H100 80GB HBM3" """


class Target(NamedTuple):
  """Devices to compile for, with rates from data sheets."""

  platform: str  # "cuda" or "tpu"
  topology: dict[str, str]  # arguments of `topologies.get_topology_desc`
  modules: tuple[str, ...]  # of its compiler
  flops: tuple[float, float, float]  # per second in matrix products, at each of `PRECISIONS`
  link: float  # bytes per second from one device to the others
  launch_seconds: float = 0.0  # least time of a kernel in a CUDA graph, from the literature; not measured here
  cores: int = 0  # multiprocessors of a GPU


def _h100(topology: str) -> Target:
  description = {"target_config": H100, "topology": topology}
  modules = ("jax_cuda12_plugin", "nvidia")
  return Target("cuda", description, modules, (67e12, 495e12, 989e12), link=450e9, launch_seconds=1.3e-6, cores=132)


def _tpu_v5e(topology: str) -> Target:
  flops = (197e12 / 6, 197e12 / 3, 197e12)  # of one float32 product XLA makes six of bfloat16
  return Target("tpu", {"topology_name": f"v5e:{topology}"}, ("libtpu",), flops, link=200e9)


PRECISIONS = ("float32", "tensorfloat32", "bfloat16")
TARGETS = {
  "h100": _h100("1x1x1"),
  "h100x8": _h100("1x1x8"),
  "tpu-v5e": _tpu_v5e("2x2"),
  "tpu-v5e:16x16": _tpu_v5e("16x16"),
}


def main() -> None:
  parser = create_parser(__doc__)
  parser.add_argument("--config", nargs="+", default=CONFIGS, metavar="FILE:VARIANT", help="of configs/")
  parser.add_argument("--target", nargs="+", choices=TARGETS, default=["h100"])
  parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="changes to the configs")
  parser.add_argument("--plan", default="", metavar="FIELD=VALUE,...", help="changes to DRAW's plan for the target")
  parser.add_argument("--batch-size", type=positive, default=128, help="images of each device")
  parser.add_argument("--json", type=output_file, help="also write all numbers to this file")
  options = parser.parse_args()
  os.environ["JAX_PLATFORMS"] = "cpu"
  import jax

  print(f"jax {jax.__version__}, {options.batch_size} images on each device\n")
  print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|", flush=True)
  results = []
  for target in options.target:
    for name in options.config:
      results.append(measure(name, target, options))
      print(_format_row(results[-1]), flush=True)
  if options.json:
    options.json.write_text(json.dumps({"jax": jax.__version__, "rows": results}, indent=2) + "\n")


def compile_steps(config, model, target: Target, batch_size: int, dump: str):
  """Traces and compiles `STEPS` training steps with `batch_size` images on each device; XLA writes to `dump`."""
  if not all(map(importlib.util.find_spec, target.modules)):
    raise SystemExit("error: the compiler for this target is not installed. `make compiled` installs it.")
  os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # libtpu must not look for a TPU
  os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")  # required; the target's topology is what counts
  os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
  os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
  import jax
  import jax.numpy as jnp
  from jax.experimental import topologies
  from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

  from latentjax.runtime.distributed import DATA_AXIS
  from latentjax.runtime.rng import create_rng_streams
  from latentjax.training.compile import create_train_fns

  compiler_options = {}
  if target.platform == "cuda":
    (nvidia,) = importlib.util.find_spec("nvidia").submodule_search_locations
    compiler_options = {"xla_gpu_cuda_data_dir": str(Path(nvidia, "cuda_nvcc")), "xla_dump_to": dump}
  devices = topologies.get_topology_desc(platform=target.platform, **target.topology).devices
  mesh = Mesh(devices, (DATA_AXIS,), axis_types=(AxisType.Auto,))
  replicated = NamedSharding(mesh, PartitionSpec())
  config.train.batch_size = batch_size * len(devices)
  num_images = config.train.batch_size * STEPS
  fns = create_train_fns(config, model, num_images, mesh if len(devices) > 1 else None)
  keys = jax.eval_shape(lambda: create_rng_streams(config))
  shapes = (
    jax.eval_shape(fns.init, keys.init),
    jax.ShapeDtypeStruct((num_images, *model.image_shape), jnp.uint8),
    jax.eval_shape(fns.order, keys.order, 0),
    keys.train,
  )
  args = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated), shapes)
  traced = fns.train.trace(*args, STEPS)
  return traced, traced.lower().compile(compiler_options=compiler_options)


def measure(name: str, target_name: str, options: argparse.Namespace) -> dict:
  """Compiles a config for a target and returns the numbers of the table, and more."""
  from latentjax import models
  from latentjax.data.dataset import random_dataset
  from latentjax.inference.trained_model import variable_shapes
  from latentjax.models import layers
  from latentjax.models.base import num_parameters
  from latentjax.models.draw.model import DRAW
  from latentjax.runtime.cost import matmul_flops

  layers.convolve = layers.conv_same  # it would choose by this machine's backend, not by the target's
  target, config = TARGETS[target_name], load_config(name, options.set)
  model = models.create_model(config.model, random_dataset(**config.data.to_dict()).image_shape)
  if isinstance(model, DRAW):
    plan = model.plan_for({"cuda": "gpu"}.get(target.platform, target.platform))
    model = model.clone(plan=change_plan(plan, options.plan))
  elif options.plan:
    raise SystemExit(f"error: --plan: {name} is not a DRAW")
  with tempfile.TemporaryDirectory() as dump:
    start = time.perf_counter()
    traced, compiled = compile_steps(config, model, target, options.batch_size, dump)
    seconds = time.perf_counter() - start
    files = sorted(Path(dump).glob("*jit_precise.thunk_sequence_after_thunk_passes.txt"))
    thunks = parse_thunks(files[-1].read_text()) if files else None
  program = Program(compiled.as_text())
  body = program.loop_body(STEPS)
  num_devices = config.train.batch_size // options.batch_size
  launches, chain, collectives = program.launches(body), program.longest_chain(body), program.collectives(body)
  flops = matmul_flops(traced.jaxpr) / STEPS / num_devices
  exchanged_bytes = sum(num_bytes for _, num_bytes in collectives.values())
  memory = compiled.memory_analysis()
  image_bytes = STEPS * config.train.batch_size * math.prod(model.image_shape)  # depend on the dataset
  return {
    "config": " ".join([name, *options.set, options.plan]).strip(),
    "target": target_name,
    "devices": num_devices,
    "launches": launches.total(),
    "chain": chain,
    "graphs": thunks and thunks.graphs,
    "outside_graphs": thunks and thunks.outside,
    "small": thunks and sum(blocks < target.cores for blocks in thunks.blocks),
    "of_one_block": thunks and thunks.blocks.count(1),
    "collectives": collectives,
    "parameter_bytes": 4 * num_parameters(variable_shapes(model)["params"]),
    "memory_bytes": memory.argument_size_in_bytes - image_bytes + memory.temp_size_in_bytes,
    "flops": flops,
    "compile_seconds": seconds,
    "at_least_seconds": max(
      chain * target.launch_seconds,
      flops / target.flops[PRECISIONS.index(config.precision)],
      2 * exchanged_bytes * (1 - 1 / num_devices) / target.link,
    ),
  }


def _format_row(result: dict) -> str:
  exchanged = ", ".join(
    f"{count}{'' if kind == 'all-reduce' else f' {kind}'}: {num_bytes / 2**10:,.0f}"
    for kind, (count, num_bytes) in result["collectives"].items()
  )
  on_gpu = result["graphs"] is not None
  outside = f" + {result['outside_graphs']}" if result["outside_graphs"] else ""
  cells = (
    result["config"],
    f"{result['target']} ({result['devices']})",
    f"{result['launches']:,}",
    f"{result['chain']:,}",
    f"{result['graphs']}{outside}" if on_gpu else "-",
    f"{result['small']} ({result['of_one_block']})" if on_gpu else "-",
    exchanged or "-",
    f"{result['memory_bytes'] / 2**20:,.0f}",
    f"{result['flops'] / 1e9:.2f}",
    f"{result['compile_seconds']:.0f}",
    f"{1e6 * result['at_least_seconds']:,.0f}",
  )
  return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
  main()
