"""latentjax against PyTorch: one training step of the same model, by turns on the same cores, in one table.

    python -m benchmarks.race [--configs vae:default draw:base ...] [--batch-size 128] [--rounds 20] [--threads 2]
    python -m benchmarks.race --num-seeds=8    # the step of 8 seeds together, in PyTorch by torch.func.vmap

Every contestant lives in a process of its own and waits for its turn, A B C A B C ...; a ratio compares turns of the
same round, so that a machine that becomes faster or slower does so for all. Other work on it is not shared alike, and
PyTorch suffers most: let nothing else run. Contestants on a CPU are held to the same cores and number of threads. All
take Adam's steps without weight decay, whatever a config says.
"""

import argparse
import contextlib
import importlib.util
import json
import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.arguments import named_config, new_file, positive

CONFIGS = ["vae:default", "ladder_vae:default", "draw:base", "draw:filterbank"]
WAYS = ("plain", "eager", "compile", "graph", "compiled-graph")  # of PyTorch; the last two need a GPU
CPU_WAYS = tuple(way for way in WAYS if not way.endswith("graph"))  # which has no CUDA graphs
IMAGES = (28, 28, 1)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--configs", nargs="+", default=CONFIGS, metavar="FILE:VARIANT", help="of configs/")
  parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="changes to them")
  parser.add_argument("--ways", nargs="+", choices=WAYS, help="of PyTorch; all by default")
  parser.add_argument("--batch-size", type=positive, default=128)
  parser.add_argument("--num-seeds", type=positive, default=1, help="trained together")
  parser.add_argument("--rounds", type=positive, default=20)
  parser.add_argument(
    "--turn", type=float, default=1.0, help="seconds of a turn, in calls of as many steps as in training"
  )
  cores = len(os.sched_getaffinity(0))
  parser.add_argument("--threads", type=positive, default=cores, help="CPU cores for each contestant; all by default")
  parser.add_argument("--precision", choices=["float32", "tensorfloat32", "bfloat16"], default="float32")
  parser.add_argument("--json", type=new_file, help="also write all turns to this file")
  options = parser.parse_args()
  if options.threads > cores:
    parser.error(f"--threads: there are {cores} cores here")
  if not has_gpu() and not {*(options.ways or ())} <= {*ways_here()}:
    parser.error(f"--ways: a CUDA graph needs an NVIDIA GPU; here there are {', '.join(ways_here())}")
  if importlib.util.find_spec("torch") is None:
    parser.error("PyTorch is not installed here: `make benchmark` runs this where it is")
  for name in options.configs:
    configured(name, options)  # before the first race, not after an hour of them
  results = [{"config": name, "turns": race(name, options)} for name in options.configs]
  several = f" x {options.num_seeds} seeds" if options.num_seeds > 1 else ""
  images = f"batch {options.batch_size}{several}"
  title = f"{options.precision}, {images}, {options.threads} CPU cores, {options.rounds} rounds"
  Console(width=100).print(table(results, options.batch_size * options.num_seeds, title))
  if options.json:
    options.json.write_text(json.dumps(vars(options) | {"results": results}, default=str, indent=2) + "\n")
  lacking = [way for way in options.ways or ways_here() if any(f"torch {way}" not in one["turns"] for one in results)]
  if lacking:
    raise SystemExit(f"error: {', '.join(lacking)} did not start, for the reason above")


def race(name: str, options: argparse.Namespace) -> dict[str, list[float]]:
  """Milliseconds per step of every turn of every contestant."""
  context = multiprocessing.get_context("spawn")
  ways = options.ways or ways_here()
  pipes, processes, devices, few = {}, [], {}, {}
  try:
    for contestant in ("latentjax", *(f"torch {way}" for way in ways)):
      here, there = context.Pipe()
      process = context.Process(target=work, args=(there, contestant, name, options), daemon=True)
      process.start()
      there.close()
      processes.append(process)
      try:
        devices[contestant], few[contestant] = here.recv()  # compiled and warm, before the next one starts
        pipes[contestant] = here
      except EOFError:
        print(f"{contestant} did not start, for the reason above", flush=True)
    if "latentjax" not in pipes or len(pipes) == 1:
      raise SystemExit("error: no race, for the reason above")
    if len(set(devices.values())) > 1:
      raise SystemExit(f"error: no race: {', '.join(f'{who} is on a {where}' for who, where in devices.items())}")
    most = configured(name, options).train.steps_per_call
    calls = {}  # of a turn: how many, and of how many steps
    for contestant, pipe in pipes.items():
      once = min(turn(pipe, 1, few[contestant]) for _ in range(3))  # a device that has waited begins slowly
      steps = int(np.clip(round(options.turn / once), few[contestant], most))
      calls[contestant] = max(1, round(options.turn / (once * steps))), steps
    for contestant, pipe in pipes.items():
      turn(pipe, *calls[contestant])  # latentjax compiles so many steps
    turns = {contestant: [] for contestant in pipes}
    for _ in range(options.rounds):
      for contestant, pipe in pipes.items():
        turns[contestant].append(1e3 * turn(pipe, *calls[contestant]))
    return turns
  finally:
    for pipe in pipes.values():
      pipe.close()  # which ends the process on its other side
    for process in processes:
      process.join(timeout=10)
      process.kill()


def configured(name: str, options: argparse.Namespace):
  changes = f"precision={options.precision}", f"train.num_seeds={options.num_seeds}"
  return named_config(name, [*options.set, *changes, "train.optimizer=adam", "train.weight_decay=0.0"])


def ways_here() -> tuple[str, ...]:
  return WAYS if has_gpu() else CPU_WAYS


def has_gpu() -> bool:
  return any(Path("/dev").glob("nvidia[0-9]*"))


def turn(pipe, calls: int, steps: int) -> float:
  """Seconds that a step of a contestant takes, in so many calls of so many steps."""
  time.sleep(0.01)  # threads of the one before go to sleep
  pipe.send((calls, steps))
  return pipe.recv() / (calls * steps)


def work(pipe, contestant: str, name: str, options: argparse.Namespace) -> None:
  """A contestant's process: prepares its step, then takes its turns, and says how long they took."""
  os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])  # before any thread pool counts cores
  config = configured(name, options)
  num_images = options.batch_size * max(2, 4096 // options.batch_size)
  images = np.random.default_rng(0).integers(0, 256, (num_images, *IMAGES), np.uint8)
  if contestant == "latentjax":
    import jax

    from benchmarks.torch_steps import Training
    from latentjax import models
    from latentjax.cli.benchmark import create_workload

    workload = create_workload(config, models.create_model(config.model, IMAGES), images, options.batch_size)
    call, device, few = workload.call, jax.default_backend(), workload.few
  else:
    import torch

    from benchmarks.torch_steps import Training
    from latentjax import models
    from latentjax.cli.benchmark import create_workload

    torch.set_num_threads(options.threads)
    training = Training(config, images, options.batch_size, contestant.removeprefix("torch "))
    call, device, few = training.call, {"cuda": "gpu"}.get(training.device.type, training.device.type), 2
  for _ in range(3):
    call(few)
  pipe.send((device, few))
  with contextlib.suppress(EOFError):  # the race is over
    while True:
      calls, steps = pipe.recv()
      began = time.perf_counter()
      for _ in range(calls):
        call(steps)
      pipe.send(time.perf_counter() - began)


def table(results: list[dict], images: int, title: str) -> Table:
  """Medians of all turns, and how many times longer a peer takes: the median, least and greatest ratio of a round.

  Args:
    images: of one step.
  """
  out = Table("config", "step", title=title, title_justify="left")
  for column in ("ms", "images/s", "x latentjax", "least", "greatest"):
    out.add_column(column, justify="right")
  for result in results:
    ours = np.array(result["turns"]["latentjax"])
    for contestant, turns in result["turns"].items():
      ratios = np.array(turns) / ours
      median = np.median(turns)
      spread = [f"{f(ratios):.2f}" for f in (np.median, np.min, np.max)]
      out.add_row(result["config"], contestant, f"{median:.2f}", f"{1e3 * images / median:,.0f}", *spread)
  return out


if __name__ == "__main__":
  main()
