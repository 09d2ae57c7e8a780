"""Times the same training step in latentjax and PyTorch, interleaved on the same cores.

    python -m benchmarks.compare_pytorch [--configs vae:default draw:base ...] [--batch-size 128] [--rounds 20]
    python -m benchmarks.compare_pytorch --set train.num_seeds=8    # in PyTorch by torch.func.vmap

Each contestant runs in its own process. They are timed in the order A B C A B C ..., and ratios compare times of the
same round, so that a change in the machine's speed affects all. Run nothing else meanwhile: other work slows PyTorch
most. `taskset` limits all to some cores. All train with Adam without weight decay, whatever the config says.
"""

import contextlib
import importlib.util
import json
import multiprocessing
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.common import CONFIGS, IMAGE_SHAPE, create_parser, load_config, output_file, positive, random_images

VARIANTS = ("plain", "eager", "compile", "graph", "compiled-graph")  # of PyTorch, see `torch_training.Training`
ADAM = ("train.optimizer=adam", "train.weight_decay=0.0")  # changes that make latentjax and PyTorch do the same


class Contestant(NamedTuple):
  """A compiled training step."""

  time: Callable[[int, int], float]  # (calls, steps) -> seconds of that many calls of that many steps each
  min_steps: int  # of a call
  device: str  # "cpu", "gpu" or "tpu"


def main() -> None:
  parser = create_parser(__doc__)
  parser.add_argument("--configs", nargs="+", default=CONFIGS, metavar="FILE:VARIANT", help="of configs/")
  parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="changes to the configs")
  parser.add_argument("--variants", nargs="+", choices=VARIANTS, help="of PyTorch; by default all that run here")
  parser.add_argument("--batch-size", type=positive, default=128)
  parser.add_argument("--rounds", type=positive, default=20)
  parser.add_argument("--turn", type=float, default=1.0, metavar="SECONDS", help="of each contestant in a round")
  parser.add_argument("--json", type=output_file, help="also write all times to this file")
  options = parser.parse_args()
  options.variants = options.variants or available_variants()
  if not {*options.variants} <= {*available_variants()}:
    parser.error(f"--variants: a CUDA graph needs an NVIDIA GPU. Choose from {', '.join(available_variants())}.")
  if importlib.util.find_spec("torch") is None:
    parser.error("PyTorch is not installed. `make benchmark` installs and runs it.")
  configs = {name: load_config(name, [*options.set, *ADAM]) for name in options.configs}
  results = [{"config": name, "times_ms": _compare(name, config, options)} for name, config in configs.items()]
  images = options.batch_size * next(iter(configs.values())).train.num_seeds
  title = f"batch {options.batch_size}, {len(os.sched_getaffinity(0))} cores, {options.rounds} rounds"
  Console(width=100).print(create_table(results, images, " ".join([title, *options.set])))
  if options.json:
    options.json.write_text(json.dumps(vars(options) | {"results": results}, default=str, indent=2) + "\n")
  if missing := [v for v in options.variants if any(f"torch {v}" not in result["times_ms"] for result in results)]:
    raise SystemExit(f"error: {', '.join(missing)} did not start. The reason is above.")


def available_variants() -> tuple[str, ...]:
  """Returns the variants of PyTorch that this machine can run."""
  has_gpu = any(Path("/dev").glob("nvidia[0-9]*"))
  return tuple(variant for variant in VARIANTS if has_gpu or not variant.endswith("graph"))


def _compare(name: str, config, options) -> dict[str, list[float]]:
  """Times latentjax and all variants of PyTorch; returns ms per step in each round."""
  arguments = name, [*options.set, *ADAM], options.batch_size
  contestants = ("latentjax", *(f"torch {variant}" for variant in options.variants))
  create = {contestant: partial(load_contestant, contestant, *arguments) for contestant in contestants}
  return compare(create, options.rounds, options.turn, config.train.steps_per_call)


def compare(
  create: dict[str, Callable[[], Contestant]], rounds: int, turn_seconds: float, max_steps: int
) -> dict[str, list[float]]:
  """Creates each contestant in its own process and times them, see `interleave`.

  Raises:
    SystemExit: They cannot be compared.
  """
  context = multiprocessing.get_context("spawn")
  pipes, processes, contestants = [], [], {}
  try:
    for contestant, function in create.items():
      pipe, other_end = context.Pipe()
      processes.append(context.Process(target=_serve, args=(other_end, function), daemon=True))
      processes[-1].start()
      other_end.close()
      pipes.append(pipe)
      try:  # compiled and warm before the next one starts
        contestants[contestant] = Contestant(partial(_request_time, pipe), *pipe.recv())
      except EOFError:
        print(f"{contestant} did not start. The reason is above.", flush=True)
    return interleave(contestants, rounds, turn_seconds, max_steps)
  except ValueError as error:
    raise SystemExit(f"error: {error}") from None
  finally:
    for pipe in pipes:
      pipe.close()  # ends the process at its other end
    for process in processes:
      process.join(timeout=10)
      process.kill()


def _request_time(pipe, calls: int, steps: int) -> float:
  pipe.send((calls, steps))
  return pipe.recv()


def _serve(pipe, create: Callable[[], Contestant]) -> None:
  """Runs in a contestant's process: prepares its step and answers requests for times."""
  created = create()
  pipe.send((created.min_steps, created.device))
  with contextlib.suppress(EOFError):
    while True:
      pipe.send(created.time(*pipe.recv()))


def load_contestant(name: str, config: str, changes: list[str], batch_size: int) -> Contestant:
  """Loads the config FILE:VARIANT and prepares a contestant, see `create_contestant`."""
  return create_contestant(name, load_config(config, changes), batch_size)


def create_contestant(name: str, config, batch_size: int) -> Contestant:
  """Prepares and warms up the training step of "latentjax" or "torch VARIANT"."""
  images = random_images(batch_size)
  if name == "latentjax":
    import jax

    from latentjax import models
    from latentjax.cli.benchmark import create_workload

    workload = create_workload(config, models.create_model(config.model, IMAGE_SHAPE), images, batch_size)
    call, min_steps, device = workload.call, workload.warmup_steps, jax.default_backend()
  else:
    import torch

    from benchmarks.torch_training import Training

    torch.set_num_threads(len(os.sched_getaffinity(0)))  # as many as latentjax uses
    training = Training(config, images, batch_size, name.removeprefix("torch "))
    call, min_steps, device = training.call, 2, {"cuda": "gpu"}.get(training.device.type, training.device.type)

  def time_calls(calls: int, steps: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
      call(steps)
    return time.perf_counter() - start

  time_calls(3, min_steps)
  return Contestant(time_calls, min_steps, device)


def interleave(
  contestants: dict[str, Contestant], rounds: int, turn_seconds: float, max_steps: int
) -> dict[str, list[float]]:
  """Times "latentjax" and others one after the other in each round; returns milliseconds per step.

  A turn has calls of at most `max_steps` steps, as in training, and lasts about `turn_seconds`.
  """
  if "latentjax" not in contestants or len(contestants) == 1:
    raise ValueError("there is nothing to compare")
  if len({contestant.device for contestant in contestants.values()}) > 1:
    devices = ", ".join(f"{name} on {contestant.device}" for name, contestant in contestants.items())
    raise ValueError(f"the contestants run on different devices: {devices}")

  def seconds_per_step(name: str, calls: int, steps: int) -> float:
    time.sleep(0.01)  # lets the threads of the previous contestant go to sleep
    return contestants[name].time(calls, steps) / (calls * steps)

  turns = {}  # calls, and steps of each
  for name, contestant in contestants.items():
    once = min(seconds_per_step(name, 1, contestant.min_steps) for _ in range(3))  # an idle device starts slowly
    steps = int(np.clip(round(turn_seconds / once), contestant.min_steps, max_steps))
    turns[name] = max(1, round(turn_seconds / (once * steps))), steps
  for name, turn in turns.items():
    seconds_per_step(name, *turn)  # latentjax compiles this number of steps
  times = {name: [] for name in contestants}
  for _ in range(rounds):
    for name, turn in turns.items():
      times[name].append(1e3 * seconds_per_step(name, *turn))
  return times


def create_table(results: list[dict], images: int, title: str) -> Table:
  """Tabulates median times of steps of so many images, and ratios to latentjax in the same round."""
  table = Table("config", "step", title=title, title_justify="left")
  for column in ("ms", "images/s", "x latentjax", "least", "greatest"):
    table.add_column(column, justify="right")
  for result in results:
    for name, times in result["times_ms"].items():
      ratios, median = np.array(times) / np.array(result["times_ms"]["latentjax"]), np.median(times)
      spread = [f"{f(ratios):.2f}" for f in (np.median, np.min, np.max)]
      table.add_row(result["config"], name, f"{median:.2f}", f"{1e3 * images / median:,.0f}", *spread)
  return table


if __name__ == "__main__":
  main()
