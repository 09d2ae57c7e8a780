"""Measurements in order of value, all run in this process."""

import contextlib
import dataclasses
import gc
import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import jax

from benchmarks.accelerator.session import Results, Watchdog
from benchmarks.common import CONFIGS, IMAGE_SHAPE, change_plan, load_config, random_images
from benchmarks.compare_pytorch import ADAM, available_variants, create_contestant, interleave
from latentjax import models
from latentjax.cli import train
from latentjax.cli.benchmark import create_workload, measure_workload
from latentjax.data.cache import cached_path
from latentjax.runtime.errors import Interrupted, RunError, last_line
from latentjax.workdir import records

PYTORCH = ("eager", "compile", "graph", "compiled-graph")
PLANS = ("attention_impl=cpu", "weight_gradients=per_step", "unroll=1")  # each compared with the plan for the device
PAPER_WINDOWS = ("model.read_size=2", "model.write_size=5")
TRAININGS = {  # part: dataset, changes, and validation ELBO to stop at (docs/results.md)
  "target": ("mnist", ("model.num_steps=20", "precision=bfloat16", "train.epochs=46"), -85.30),
  "paper": ("binarized_mnist", (), None),
}
TINY = {
  "vae": ("model.hidden_dims=(8,)", "model.latent_dim=2"),
  "ladder_vae": ("model.hidden_dims=(8,8)", "model.latent_dims=(3,2)"),
  "conv_ladder": ("model.levels=1:1x4z2 7:1x4z1",),
  "draw": ("model.num_steps=2", "model.hidden_dim=8", "model.latent_dim=2", "model.read_size=2", "model.write_size=3"),
}


@dataclasses.dataclass(frozen=True)
class Measurement:
  """One row of the report."""

  part: str
  config: str
  batch_size: int = 128
  num_seeds: int = 1
  precision: str = "float32"
  changes: tuple[str, ...] = ()  # to the config
  plan: str = ""  # changes to DRAW's execution plan for the device
  variants: tuple[str, ...] = ()  # of PyTorch, to compare with
  min_seconds: float = 30.0  # not started with less time left

  @property
  def name(self) -> str:
    words = (self.part, self.config.replace(":", "_"), self.batch_size, self.num_seeds, self.precision)
    return "-".join(map(str, (*words, *self.changes, *filter(None, [self.plan]), *self.variants)))


def list_measurements(rehearse: bool) -> list[Measurement]:
  """Returns all measurements in order of value; a rehearsal has smaller batches."""
  m, (small, large, largest) = Measurement, (8, 16, 32) if rehearse else (128, 1024, 8192)
  return [
    *(m("steps", config, small) for config in CONFIGS),
    *(m("pytorch", config, small, variants=PYTORCH[:3], min_seconds=60) for config in CONFIGS[2:]),
    *(m("plan", CONFIGS[3], small, changes=PAPER_WINDOWS, plan=plan) for plan in ("", *PLANS)),
    *(m("plan", CONFIGS[3], small, plan=plan) for plan in PLANS),
    *(m("seeds", config, small, num_seeds) for num_seeds in (8, 32) for config in CONFIGS),
    *(m("batch", config, batch_size) for batch_size in (large, largest) for config in CONFIGS),
    *(m("precision", c, small, precision=each) for c in reversed(CONFIGS) for each in ("tensorfloat32", "bfloat16")),
    *(m("conv", "conv_ladder:default", batch_size) for batch_size in (small, large)),
    m("target", "draw:deep", min_seconds=60),
    *(m("pytorch", config, small, variants=PYTORCH[:3], min_seconds=60) for config in CONFIGS[:2]),
    *(m("pytorch", config, small, 8, variants=PYTORCH[1:], min_seconds=60) for config in CONFIGS),
    *(m("pytorch", c, small, 1, "tensorfloat32", variants=PYTORCH[1:], min_seconds=60) for c in CONFIGS),
    m("paper", "draw:paper", min_seconds=60),
  ]


def measure(measurement: Measurement, options, results: Results, watchdog: Watchdog) -> dict:
  """Runs one measurement."""
  jax.clear_caches()
  gc.collect()  # frees the memory of the measurement before
  if measurement.part in TRAININGS:
    return _train(measurement, options, results, watchdog)
  return _compare_pytorch(measurement, options) if measurement.variants else _time_step(measurement, options)


def _load_config(measurement: Measurement, rehearse: bool, changes=()):
  tiny = TINY[measurement.config.partition(":")[0]] if rehearse else ()
  changes = [f"precision={measurement.precision}", f"train.num_seeds={measurement.num_seeds}", *changes]
  return load_config(measurement.config, [*changes, *measurement.changes, *tiny])


def _time_step(measurement: Measurement, options) -> dict:
  config, batch_size = _load_config(measurement, options.rehearse), measurement.batch_size
  model = models.create_model(config.model, IMAGE_SHAPE)
  if measurement.plan:
    model = model.clone(plan=change_plan(model.plan_for(jax.default_backend()), measurement.plan))
  workload = create_workload(config, model, random_images(batch_size), batch_size)
  repetitions = 3 if options.rehearse else 20 if batch_size <= 128 else 5
  result = measure_workload(workload, batch_size, config.precision, repetitions)
  if measurement.part in ("steps", "conv"):
    steps = result["steps_per_measurement"]
    try:
      result |= _trace_kernels(lambda: workload.call(steps), options.out / "traces" / measurement.name, steps)
    except Exception as error:  # a profiler may be missing; the time is still valid
      result["problem"] = last_line(error)
  return result


def _trace_kernels(call: Callable[[], None], directory: Path, steps: int) -> dict:
  """Traces a call of `steps` steps that waits for its end; the trace stays in the directory."""
  with jax.profiler.trace(directory):
    call()
  path = max(directory.rglob("*.xplane.pb"))  # the newest: names are dates
  return summarize_kernels(list(read_kernels(jax.profiler.ProfileData.from_file(str(path)))), steps)


def read_kernels(profile: "jax.profiler.ProfileData") -> Iterator[tuple[str, float, float]]:
  """Yields (name, start, end), in ns, of the first device's kernels, or of what the threads of a CPU run."""
  planes = {plane.name: plane for plane in profile.planes}
  devices = [name for name in planes if name.startswith(("/device:GPU", "/device:TPU"))]
  if not devices and jax.default_backend() != "cpu":
    raise ValueError("the trace has nothing of the device")
  for line in planes[min(devices, default="/host:CPU")].lines:
    if line.name.startswith(("Stream", "tf_XLA")) or line.name == "XLA Ops":
      for event in line.events:
        if event.duration_ns > 0 and not event.name.startswith(("ThreadpoolListener", "ThunkExecutor")):
          yield event.name, event.start_ns, event.start_ns + event.duration_ns


def summarize_kernels(kernels: list[tuple[str, float, float]], steps: int) -> dict:
  """Returns the time in which at least one kernel ran, and the number and total times of kernels, all per step."""
  if not kernels:
    raise ValueError("the trace has no kernels")
  busy, last_end, times = 0.0, float("-inf"), Counter()
  for name, start, end in sorted(kernels, key=lambda kernel: kernel[1:]):
    busy += max(0.0, end - max(start, last_end))
    last_end = max(last_end, end)
    times[name] += end - start
  slowest = {name: total / steps / 1e3 for name, total in times.most_common(12)}
  return {"busy_ms": busy / steps / 1e6, "kernels_per_step": len(kernels) / steps, "slowest_us_per_step": slowest}


def _compare_pytorch(measurement: Measurement, options) -> dict:
  import torch

  torch._dynamo.reset()  # else it keeps what it compiled for the last measurement
  config, contestants, problems = _load_config(measurement, options.rehearse, ADAM), {}, {}
  for name in ("latentjax", *(f"torch {each}" for each in measurement.variants if each in available_variants())):
    try:
      contestants[name] = create_contestant(name, config, measurement.batch_size)
    except Exception as error:
      problems[name] = last_line(error)
  if "latentjax" in problems or len(contestants) < 2:
    raise RunError("; ".join(f"{name}: {problem}" for name, problem in problems.items()))
  rounds, seconds = (3, 0.01) if options.rehearse else (20, 0.2)
  return {"times_ms": interleave(contestants, rounds, seconds, config.train.steps_per_call), "problems": problems}


def _train(measurement: Measurement, options, results: Results, watchdog: Watchdog) -> dict:
  """Trains until the ELBO reaches its target, or to the end; a later call resumes."""
  data, changes, target = TRAININGS[measurement.part]
  if options.rehearse:
    data, changes, target = "mnist_digits", (*changes, "eval.nll_samples=2", "train.epochs=3"), target and -400.0
  elif not cached_path(data).exists():
    raise RunError(f"there is no decoded dataset {cached_path(data)}")
  config = _load_config(measurement, options.rehearse, (f"data.name={data}", *changes))
  workdir, start, result = options.out / measurement.part, time.monotonic(), {}

  def poll() -> bool:
    """Records a new epoch; returns True if the target is reached."""
    path = workdir / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().split("\n")[:-1]] if path.exists() else []
    reached = [row for row in rows if target and row["validation"]["elbo"] >= target]
    if rows and rows[-1]["epoch"] != result.get("epoch"):
      last = (reached or rows[-1:])[0]
      result.update({key: last[key] for key in ("epoch", "seconds", "images_per_second")}, target=target)
      result.update(validation_elbo=last["validation"]["elbo"], call_seconds=time.monotonic() - start)
      results.add("partial", result=dict(result))
    return bool(reached)

  watchdog.poll = poll
  try:
    train.run(config, workdir)
  except Interrupted:
    watchdog.poll = None
    if not poll():
      watchdog.thread.join()  # it ends the process
  finally:
    watchdog.poll = None
  poll()
  return result


def check_machine(results: Results, rehearse: bool) -> str | None:
  """Records this machine in an empty directory; returns a message if the directory or the machine does not fit."""
  device = jax.devices()[0]
  if device.platform == "cpu" and not rehearse:
    return "JAX finds no accelerator, only a CPU. --rehearse runs all measurements with tiny models."
  machine = results.lines.get("machine", {})
  if machine.get("status") != "measured":
    command, driver = ["nvidia-smi", "--query-gpu=driver_version,power.limit,clocks.max.sm", "--format=csv"], ""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
      driver = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    results.start({"name": "machine", "rehearse": rehearse, "device_kind": device.device_kind})
    device_details = {"runtime": device.client.platform_version, "driver": driver}
    results.add("measured", result=records.current_provenance("") | device_details)
  elif (machine["rehearse"], machine["device_kind"]) != (rehearse, device.device_kind):
    kind = "a rehearsal" if machine["rehearse"] else "measurements"
    return f"--out holds {kind} on {machine['device_kind']}. Choose another directory."
  return None
