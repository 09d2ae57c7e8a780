"""The training step as compiled for devices that need not be here, in a Markdown table.

    python -m benchmarks.compiled --config draw:base vae:default --target h100 h100x8 tpu-v5e tpu-v5e:16x16
    python -m benchmarks.compiled --config draw:filterbank --set model.num_steps=64 --plan weight_gradients=per_step

`make compiled` installs the compilers in an environment of its own: beside latentjax, of the installed jax version,

    pip install jax[tpu]==$JAX jax-cuda12-plugin==$JAX jax-cuda12-pjrt==$JAX nvidia-cuda-nvcc-cu12

Of one step: launches (a fusion, a library call, a copy or any other operation on arrays; the body of a loop counts as
often as the loop runs; on a TPU, which launches whole programs, these are operations of one), the longest chain of
them that must wait for each other, graphs (the host's launches), kernels of fewer blocks than the card has cores (of
one block), what devices exchange, memory and arithmetic of each device. "At least" is no measurement: the greatest of
launches one after the other at 1.3 us each, products at the maker's peak rate, and all-reduces at the rate of a
device's links. Nothing is tuned without the device: compare these numbers with each other, not with a profiler's.
"""

import argparse
import importlib.util
import json
import os
import tempfile
import time
from pathlib import Path

from benchmarks import thunks
from benchmarks.arguments import changed_plan, named_config, new_file, positive
from benchmarks.hlo import Program
from benchmarks.targets import TARGETS, Target

CONFIGS = ["vae:default", "ladder_vae:default", "draw:base", "draw:filterbank"]
SHAPE = (28, 28, 1)
STEPS = 39  # of a call, as in training on MNIST: a number that no other loop has
COLUMNS = ("config", "devices", "launches", "chain", "graphs", "small (of one block)", "all-reduces: KiB")
COLUMNS += ("MiB", "GFLOP", "compiled in s", "at least, µs")


def compile_steps(config, model, target: Target, batch_size: int, dump: str):
  """(traced, compiled) `Steps.train` of `STEPS` steps, every device with its whole batch.

  Args:
    dump: where XLA is to write what it has to say.

  Raises:
    SystemExit: what compiles for the target is not installed.
  """
  if not all(map(importlib.util.find_spec, target.needs)):
    raise SystemExit("error: the compiler for this target is not installed: `make compiled` does that")
  os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # there is no TPU to ask
  os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")  # nor to be found; the target's own topology counts
  os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
  os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # nor one to share
  import jax
  import jax.numpy as jnp
  from jax.experimental import topologies
  from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

  from latentjax.runtime.distributed import DATA_AXIS
  from latentjax.runtime.rng import create_rng_streams
  from latentjax.training.compile import create_train_fns

  options = {}
  if target.platform == "cuda":
    (nvidia,) = importlib.util.find_spec("nvidia").submodule_search_locations
    options = {"xla_gpu_cuda_data_dir": str(Path(nvidia, "cuda_nvcc")), "xla_dump_to": dump}
  devices = topologies.get_topology_desc(platform=target.platform, **target.topology).devices
  mesh = Mesh(devices, (DATA_AXIS,), axis_types=(AxisType.Auto,))
  whole = NamedSharding(mesh, PartitionSpec())
  config.train.batch_size = batch_size * len(devices)
  num_images = config.train.batch_size * STEPS
  steps = create_train_fns(config, model, num_images, mesh if len(devices) > 1 else None)
  keys = jax.eval_shape(lambda: create_rng_streams(config))
  arguments = (
    jax.eval_shape(steps.init, keys.init),
    jax.ShapeDtypeStruct((num_images, *SHAPE), jnp.uint8),
    jax.eval_shape(steps.order, keys.order, 0),
    keys.train,
  )
  placed = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), arguments)
  traced = steps.train.trace(*placed, STEPS)
  return traced, traced.lower().compile(compiler_options=options)


def measure(name: str, target_name: str, options: argparse.Namespace) -> dict:
  """What the table says of a config on a target, and more."""
  from latentjax import models
  from latentjax.inference.trained_model import variable_shapes
  from latentjax.models.base import num_parameters
  from latentjax.models.draw.model import DRAW
  from latentjax.runtime.cost import matmul_flops

  target, config = TARGETS[target_name], named_config(name, options.set)
  model = models.create_model(config.model, SHAPE)
  if isinstance(model, DRAW):
    plan = model.plan_for({"cuda": "gpu"}.get(target.platform, target.platform))
    model = model.clone(plan=changed_plan(plan, options.plan))
  elif options.plan:
    raise SystemExit(f"error: --plan: {name} is no DRAW")
  with tempfile.TemporaryDirectory() as dump:
    began = time.perf_counter()
    traced, compiled = compile_steps(config, model, target, options.batch_size, dump)
    seconds = time.perf_counter() - began
    told = sorted(Path(dump).glob("*jit_precise.thunk_sequence_after_thunk_passes.txt"))
    kernels = thunks.read(told[-1].read_text()) if told else None
  if options.hlo:
    options.hlo.write_text(compiled.as_text())
  program = Program(compiled.as_text())
  body = program.body_of_loop(STEPS)
  num_devices = config.train.batch_size // options.batch_size
  launches, chain, collectives = program.launches(body), program.longest_chain(body), program.collectives(body)
  flops = matmul_flops(traced.jaxpr) / STEPS / num_devices
  exchanged = sum(num_bytes for _, num_bytes in collectives.values())
  memory = compiled.memory_analysis()
  images = STEPS * config.train.batch_size * SHAPE[0] * SHAPE[1]  # of a real set, there are as many as there are
  return {
    "config": " ".join([name, *options.set, options.plan]).strip(),
    "target": target_name,
    "devices": num_devices,
    "launches": launches.total(),
    "kinds": dict(launches),
    "chain": chain,
    "graphs": kernels and kernels.graphs,
    "outside_graphs": kernels and kernels.outside,
    "small": kernels and sum(blocks < target.cores for blocks in kernels.blocks),
    "of_one_block": kernels and kernels.blocks.count(1),
    "collectives": collectives,
    "parameter_bytes": 4 * num_parameters(variable_shapes(model)["params"]),
    "memory_bytes": memory.argument_size_in_bytes - images + memory.temp_size_in_bytes,
    "temporary_bytes": memory.temp_size_in_bytes,
    "flops": flops,
    "compile_seconds": seconds,
    "at_least_seconds": max(
      chain * target.launch_seconds,
      flops / target.flops[config.precision],
      2 * exchanged * (1 - 1 / num_devices) / target.link,
    ),
  }


def row(result: dict) -> str:
  """A line of the table."""
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


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--config", nargs="+", default=CONFIGS, metavar="FILE:VARIANT", help="of configs/")
  parser.add_argument("--target", nargs="+", choices=TARGETS, default=["h100"])
  parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="changes to the configs")
  parser.add_argument("--plan", default="", metavar="FIELD=VALUE,...", help="changes to a DRAW's plan for the target")
  parser.add_argument("--batch-size", type=positive, default=128, help="images of each device")
  parser.add_argument("--hlo", type=new_file, help="also write the last program to this file")
  parser.add_argument("--json", type=new_file, help="also write all numbers to this file")
  options = parser.parse_args()
  os.environ["JAX_PLATFORMS"] = "cpu"
  import jax

  print(f"jax {jax.__version__}, {options.batch_size} images on each device\n")
  print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|", flush=True)
  results = []
  for target in options.target:
    for name in options.config:
      results.append(measure(name, target, options))
      print(row(results[-1]), flush=True)
  if options.json:
    options.json.write_text(json.dumps({"jax": jax.__version__, "rows": results}, indent=2) + "\n")


if __name__ == "__main__":
  main()
