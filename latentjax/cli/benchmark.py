"""`latentjax benchmark`: time, memory and arithmetic of a step of training, evaluation or sampling."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict
from rich.table import Table

from latentjax import models
from latentjax.config.schema import field_keys
from latentjax.data import dataset
from latentjax.data.preprocessing import to_pixels
from latentjax.inference.functions import SAMPLES_PER_CHUNK, create_inference_fns, samples_per_pass
from latentjax.runtime.console import compiling, console
from latentjax.runtime.cost import compile_checked, matmul_benchmark, matmul_flops, mebibytes, needed_bytes
from latentjax.runtime.distributed import check_divisible, create_mesh, sharding
from latentjax.runtime.fileio import dump_json, write_atomic
from latentjax.runtime.rng import create_rng_streams
from latentjax.training.compile import create_train_fns
from latentjax.workdir.run import Run

ONE_SEED = ("nll", "sample")  # phases that always use one seed, as `latentjax evaluate` and `sample` do
WARMUP_STEPS = 2  # of the first call on a CPU, where a step may take seconds; 2 or more run as a loop, like training
MIN_SECONDS = 1.0  # of one measurement, which takes many steps per call, as in training


class Workload(NamedTuple):
  """A compiled function with its arguments on the device."""

  call: Callable[[int], None]  # runs that many steps and waits for them; each new number is compiled first
  compiled: Any  # executable of `warmup_steps` steps, for its memory statistics
  compile_seconds: float  # to trace, lower and compile it
  devices: int  # that share the work
  num_seeds: int  # trained or evaluated together
  num_samples: int  # importance samples of every image per step
  flops: int  # per step, see `matmul_flops`, without those of rematerialization
  recomputed_flops: int  # per step, of rematerialization
  warmup_steps: int  # of the first call; on an accelerator `max_steps`, so that other numbers are rarely compiled
  max_steps: int  # per call in training


def create_workload(
  config: ConfigDict, model, images: np.ndarray, batch_size: int, mesh: Mesh | None = None
) -> Workload:
  """Compiles `config.benchmark.phase` for one batch size; images [M, H, W, C] that do not fill a batch are repeated."""
  config, phase = config.copy_and_resolve_references(), config.benchmark.phase
  config.train.batch_size = batch_size
  if phase in ONE_SEED:
    config.train.num_seeds = 1
  if config.train.iwae_start_epoch > 0:
    config.train.iwae_samples = 1  # as in the first steps
  images = np.resize(images, (max(len(images), batch_size), *images.shape[1:]))
  images = jax.device_put(images, sharding(mesh))
  steps, inference = create_train_fns(config, model, len(images), mesh), create_inference_fns(config, model, mesh)
  keys, max_steps = create_rng_streams(config), config.train.steps_per_call
  warmup_steps = WARMUP_STEPS if jax.default_backend() == "cpu" else max_steps
  state = steps.init(keys.init)

  if phase == "train":
    function, args, static = steps.train, (state, images, steps.order(keys.order, 0), keys.train), (warmup_steps,)
  elif phase == "eval":
    function, args, static = inference.evaluate, (state.variables, images[:batch_size], keys.evaluate), ()
  elif phase == "nll":
    function, args, static = inference.log_weights, (state.variables, images[:batch_size], keys.likelihood), (0,)
  else:
    function, args, static = inference.sample, (state.variables, keys.sample), (batch_size,)
  start = time.perf_counter()
  with compiling():
    traced = function.trace(*args, *static)
    compiled = compile_checked(traced)
  seconds = time.perf_counter() - start
  flops, recomputed, num_samples = matmul_flops(traced.jaxpr), 0, 1

  if phase == "train":
    remat = field_keys(model).get("remat")
    if remat and model.remat != remat.default:  # no rematerialization
      plain = create_train_fns(config, model.clone(remat=remat.default), len(images), mesh).train
      recomputed = (flops - matmul_flops(plain.trace(*args, *static).jaxpr)) // warmup_steps
    flops //= warmup_steps
  if phase == "nll":
    num_samples = samples_per_pass(batch_size, mesh)
    max_steps = SAMPLES_PER_CHUNK // num_samples
    warmup_steps = min(warmup_steps, max_steps)
    # As one batch, so that what all samples share counts once, as XLA computes it.
    together = jax.vmap(lambda key: model.apply(state.variables, to_pixels(args[1]), key).log_weight)
    all_flops = matmul_flops(jax.make_jaxpr(together)(jax.random.split(keys.likelihood, SAMPLES_PER_CHUNK)))
    flops = all_flops * num_samples // SAMPLES_PER_CHUNK

  def train(count):
    nonlocal state
    ahead = count == warmup_steps
    state, metrics = compiled(state, *args[1:]) if ahead else steps.train(state, *args[1:], count)
    jax.block_until_ready((state, metrics))

  def infer(count):
    for _ in range(count):
      out = compiled(*args)
    jax.block_until_ready(out)

  def weigh(count):
    jax.block_until_ready(compiled(*args, count * num_samples))

  call = {"train": train, "nll": weigh}.get(phase, infer)
  sizes = inference.num_devices, config.train.num_seeds, num_samples
  return Workload(call, compiled, seconds, *sizes, flops - recomputed, recomputed, warmup_steps, max_steps)


def run(config: ConfigDict, workdir: Path) -> None:
  """Measures every batch size with every number of seeds on random pixels, prints a table and writes benchmark.json."""
  Run.open(workdir, config, models.performance_keys(config.model), may_be_new=True)
  jax.config.update("jax_enable_compilation_cache", False)  # otherwise compile_seconds would measure the disk
  data = dataset.random_dataset(**config.data.to_dict())
  phase, device = config.benchmark.phase, jax.devices()[0]
  model = models.create_model(config.model, data.image_shape)
  mesh = create_mesh() if phase != "sample" else None  # `latentjax sample` uses one device
  for batch_size in config.benchmark.batch_sizes:
    check_divisible(mesh, "benchmark.batch_sizes", batch_size)
  workdir.mkdir(parents=True, exist_ok=True)

  results = {
    "phase": phase,
    "precision": config.precision,
    "device": device.device_kind,
    "devices": 1 if mesh is None else mesh.size,
    "backend": device.platform,
    "cpu_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    "jax": jax.__version__,
    "measurements": config.benchmark.measurements,
    "rows": [],
    "config": config.to_dict(),
  }
  note = " (float32 on a CPU)" if device.platform == "cpu" and config.precision == "tensorfloat32" else ""
  several = f"{results['devices']} x " if results["devices"] > 1 else ""
  console.print(
    f"{config.model.name}, {phase}, {config.precision} products{note}, jax {jax.__version__} on"
    f" {several}{device.device_kind} ({results['cpu_cores']} CPU cores)"
  )
  images = data.train if phase == "train" else data.validation
  for num_seeds in seed_counts(config):
    config = config.copy_and_resolve_references()
    config.train.num_seeds = num_seeds
    for batch_size in config.benchmark.batch_sizes:
      workload = create_workload(config, model, images, batch_size, mesh)
      results["rows"].append(measure_workload(workload, batch_size, config.precision, config.benchmark.measurements))
  console.print(table(results))
  write_atomic(workdir / "benchmark.json", dump_json(results))
  console.print(f"  {workdir / 'benchmark.json'}")


def seed_counts(config: ConfigDict) -> list[int]:
  """Returns the numbers of seeds to measure."""
  if config.benchmark.phase in ONE_SEED:
    return [1]
  return [count or config.train.num_seeds for count in config.benchmark.num_seeds]


def measure_workload(workload: Workload, batch_size: int, precision: str, measurements: int) -> dict[str, Any]:
  """Times a workload, interleaved with a large matrix product on one device as a reference for the machine."""
  product, product_flops = matmul_benchmark(precision)
  for _ in range(2):  # warm-up; the second call decides the number of steps per measurement
    jax.block_until_ready(product())
    seconds = time_call(workload.call, workload.warmup_steps) / workload.warmup_steps
  count = int(np.clip(round(MIN_SECONDS / seconds), workload.warmup_steps, workload.max_steps))
  workload.call(count)
  step_seconds, product_seconds = np.empty(measurements), np.empty(measurements)
  for i in range(measurements):
    product_seconds[i] = time_call(lambda: jax.block_until_ready(product()))
    step_seconds[i] = time_call(workload.call, count) / count
  median, device_flops = float(np.median(step_seconds)), workload.flops / workload.devices
  needed, seeds = needed_bytes(workload.compiled), workload.num_seeds
  peak, images = needed["peak_memory_bytes"], seeds * batch_size * workload.num_samples
  return {
    "batch_size": batch_size,
    "num_seeds": seeds,
    "num_samples": workload.num_samples,
    "steps_per_measurement": count,
    "compile_seconds": workload.compile_seconds,
    "step_time_ms": 1e3 * median,
    "step_time_ms_p90": 1e3 * float(np.quantile(step_seconds, 0.9)),
    "images_per_second": images / median,
    **needed,
    "step_time_ms_per_seed": 1e3 * median / seeds,
    "peak_memory_bytes_per_seed": None if peak is None else peak / seeds,
    "flops_per_image": workload.flops / images,
    "recomputed_flops_per_image": workload.recomputed_flops / images,
    "flops_per_second": workload.flops / median,
    "matmul_flops_per_second": product_flops / float(np.median(product_seconds)),
    "matmul_ratio": float(np.median(device_flops / step_seconds * product_seconds / product_flops)),
  }


def time_call(call: Callable, *args) -> float:
  start = time.perf_counter()
  call(*args)
  return time.perf_counter() - start


def table(results: dict[str, Any]) -> Table:
  """Returns a table with a column for every batch size and number of seeds."""
  rows, per_device = results["rows"], " per device" if results["devices"] > 1 else ""
  many, one = ("images x samples", "image and sample") if results["phase"] == "nll" else ("images", "image")
  label = f"MFLOP per {one} of rematerialization, not counted below"
  recomputed = {label: lambda row: f"{row['recomputed_flops_per_image'] / 1e6:.2f}"}
  per_seed = {
    "ms per step and seed": lambda row: f"{row['step_time_ms_per_seed']:.3f}",
    "memory per seed, MiB": lambda row: mebibytes(row["peak_memory_bytes_per_seed"]),
  }
  lines = {
    "ms per step, median": lambda row: f"{row['step_time_ms']:.2f}",
    "ms per step, p90": lambda row: f"{row['step_time_ms_p90']:.2f}",
    f"{many}/s": lambda row: f"{row['images_per_second']:,.0f}",
    "seconds to compile": lambda row: f"{row['compile_seconds']:.1f}",
    "peak memory, MiB": lambda row: mebibytes(row["peak_memory_bytes"]),
    "temporary memory, MiB": lambda row: mebibytes(row["temporary_memory_bytes"]),
    **(per_seed if any(row["num_seeds"] > 1 for row in rows) else {}),
    f"MFLOP per {one}": lambda row: f"{row['flops_per_image'] / 1e6:.2f}",
    **(recomputed if any(row["recomputed_flops_per_image"] for row in rows) else {}),
    "GFLOP/s": lambda row: f"{row['flops_per_second'] / 1e9:,.1f}",
    "GFLOP/s of a large matrix product": lambda row: f"{row['matmul_flops_per_second'] / 1e9:,.1f}",
    f"ratio of the two{per_device}, median": lambda row: f"{row['matmul_ratio']:.2f}",
  }
  out = Table("batch size", caption=f"of {results['measurements']} measurements")
  for row in rows:
    seeds = f" x {row['num_seeds']} seeds" if row["num_seeds"] > 1 else ""
    out.add_column(f"{row['batch_size']}{seeds}", justify="right")
  for name, show in lines.items():
    out.add_row(name, *(show(row) for row in rows))
  return out
