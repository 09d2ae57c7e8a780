"""What there is to measure, in order of worth."""

import dataclasses
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

from benchmarks.accelerator.queue import Measurement
from benchmarks.race import CPU_WAYS, has_gpu
from latentjax.data.cache import cached_path

CONFIGS = ("vae:default", "ladder_vae:default", "draw:base", "draw:filterbank")
PAPER = "draw:paper"
FLAGS = {  # of XLA on a GPU, each beside the defaults: which loops become part of a graph, and how graphs are ordered
  "the defaults again": "",
  "graphs CONCURRENT": "--xla_gpu_command_buffer_scheduling_mode=CONCURRENT",
  "graphs CONCURRENT_REGIONS": "--xla_gpu_command_buffer_scheduling_mode=CONCURRENT_REGIONS",
  "no graphs": "--xla_gpu_enable_command_buffer=",
  "loops in graphs": "--xla_gpu_enable_command_buffer=+WHILE",  # the last: older versions crash
}
PRECISIONS = ("tensorfloat32", "bfloat16")
SEEDS = (8, 32)
WAYS = (("graph", "eager"), ("compiled-graph", "compile"))  # of PyTorch, in one race each
# Without attention, by the recipe of docs/ablations.md that takes the least time to come that far.
TARGET = "draw:base", ["model.hidden_dim=512", "train.learning_rate=2e-3", "train.weight_decay=0.1", "train.epochs=56"]
ORIGINAL = -85.30  # nats: the ELBO that the original DRAW without attention reached, see docs/results.md
# Seconds below which a measurement is not begun, and after which it has failed; with start-up and compilation.
SECONDS = {"step": (60.0, 300.0), PAPER: (200.0, 480.0), "race": (150.0, 480.0), "target": (60.0, 600.0)}
PARTS = {
  "steps": "A training step: time, how busy it keeps the device, and its share of the device's own matrix rate",
  "peers": "PyTorch's step of the same model, by turns with latentjax",
  "options": "XLA's options and precisions, each in a process of its own",
  "seeds": "Several seeds in one program",
  "target": "DRAW without attention from scratch to the ELBO of the original project",
  "paper": "DRAW with the paper's settings on the static set",
}


@dataclasses.dataclass(frozen=True)
class Place:
  """Where the measurements are made.

  Attributes:
    device, platform: kind of the device as JAX has it, such as "NVIDIA H100 80GB HBM3"; and "gpu", "tpu" or "cpu".
    directory: for what they leave behind.
    rehearsal: tiny models and few repetitions, to see that everything runs.
  """

  device: str
  platform: str
  directory: Path
  rehearsal: bool


def plan(place: Place) -> Iterator[Measurement]:
  """All measurements; what is lacking here is said by each.

  The first of each kind come early, so that what cannot run here shows at once, and what half an hour does not hold
  late. DRAW with its paper's 64 steps takes long to compile, and has its turn when the others have had theirs.
  """
  small, large, largest = (8, 16, 32) if place.rehearsal else (128, 1024, 8192)
  gpu = "" if place.platform == "gpu" or place.rehearsal else "it is for GPUs"
  for config in CONFIGS:
    yield step(place, "steps", config, small, trace=True)
  for ways in WAYS:
    for config in CONFIGS:
      yield race(place, "peers", config, ways, small)
  yield training(place, "target", *TARGET, SECONDS["target"], until=ORIGINAL)
  for config in CONFIGS:
    for num_seeds in SEEDS:
      yield step(place, "seeds", config, small, num_seeds=num_seeds)
  for batch_size in (large, largest):
    for config in CONFIGS:
      yield step(place, "steps", config, batch_size)
  for config in CONFIGS:
    yield race(place, "peers", config, WAYS[1], small, precision="tensorfloat32")
  for batch_size in (small, large, largest):
    yield step(place, "steps", PAPER, batch_size)
  for config in reversed(CONFIGS):
    for precision in PRECISIONS:
      yield step(place, "options", config, small, option=precision, changes=[f"precision={precision}"])
    for option, flags in FLAGS.items():
      yield step(place, "options", config, small, option=option, flags=flags, lacks=gpu if flags else "")
  for ways in WAYS:
    for config in CONFIGS:
      yield race(place, "seeds", config, ways, small, SEEDS[0])
  yield training(place, "paper", PAPER, [], (SECONDS["target"][0], 24 * 3600.0))


def step(
  place: Place,
  part: str,
  config: str,
  batch_size: int,
  num_seeds: int = 1,
  option: str = "",
  flags: str = "",
  changes: tuple[str, ...] | list[str] = (),
  trace: bool = False,
  lacks: str = "",
) -> Measurement:
  """A training step alone.

  Args:
    option: what is unusual about it; flags of XLA and changes to the config make it so.
    trace: whether the device is watched, too.
  """
  facts = {"config": config, "batch_size": batch_size, "num_seeds": num_seeds, "option": option}
  name = file_name(part, *(str(fact) for fact in facts.values()))
  command = [
    "benchmarks.accelerator.step",
    f"--config={config}",
    f"--batch-size={batch_size}",
    f"--device={place.device}",
    *([f"--trace={place.directory / name}"] if trace else []),
    *(["--measurements=3"] if place.rehearsal else ["--measurements=5"] if batch_size > 128 else []),
    "--set",
    f"train.num_seeds={num_seeds}",
    *changes,
    *(smaller(config) if place.rehearsal else []),
  ]
  environment = {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()} if flags else {}
  seconds = SECONDS[PAPER if config == PAPER else "step"]
  return Measurement(name, part, tuple(command), *seconds, facts, environment, lacks)


def race(
  place: Place,
  part: str,
  config: str,
  ways: tuple[str, ...],
  batch_size: int,
  num_seeds: int = 1,
  precision: str = "float32",
) -> Measurement:
  """PyTorch beside latentjax, which then has not the whole memory to itself."""
  ways = tuple(way for way in ways if place.platform == "gpu" or way in CPU_WAYS)
  facts = {"config": config, "batch_size": batch_size, "num_seeds": num_seeds, "ways": ways, "precision": precision}
  lacks = "" if importlib.util.find_spec("torch") else "PyTorch is not installed"
  lacks = lacks or ("" if has_gpu() or place.rehearsal else "PyTorch finds no NVIDIA GPU here")
  command = [
    "benchmarks.race",
    f"--configs={config}",
    "--ways",
    *ways,
    f"--batch-size={batch_size}",
    f"--num-seeds={num_seeds}",
    f"--precision={precision}",
    *(["--rounds=3", "--turn=0.01"] if place.rehearsal else ["--rounds=20", "--turn=0.2"]),
    *(["--set", *smaller(config)] if place.rehearsal else []),
  ]
  name = file_name(part, "torch", config, str(batch_size), str(num_seeds), *ways, precision)
  memory = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.45"}
  return Measurement(name, part, tuple(command), *SECONDS["race"], facts, memory, lacks)


def training(
  place: Place, part: str, config: str, changes: list[str], seconds: tuple[float, float], until: float | None = None
) -> Measurement:
  """A whole training, which goes on where it was stopped."""
  data = "mnist" if config != PAPER else "binarized_mnist"
  file = cached_path(data)
  lacks = "" if file.exists() else f"there is no decoded set {file}"
  if place.rehearsal:
    data, until, lacks = "mnist_digits", until and -400.0, ""  # of digits that come with a package
    changes = [*changes, *smaller(config), "eval.nll_samples=2", "train.epochs=3"]
  command = [
    "benchmarks.accelerator.train",
    f"--config={config}",
    f"--workdir={place.directory / part}",
    *([f"--until={until}"] if until else []),
    "--set",
    f"data.name={data}",
    *changes,
  ]
  return Measurement(part, part, tuple(command), *seconds, {"config": config}, {}, lacks)


def smaller(config: str) -> list[str]:
  """Changes that make a model of the same kind tiny."""
  return {
    "vae": ["model.hidden_dims=(8,)", "model.latent_dim=2"],
    "ladder_vae": ["model.hidden_dims=(8,8)", "model.latent_dims=(3,2)"],
    "draw": [
      "model.num_steps=2",
      "model.hidden_dim=8",
      "model.latent_dim=2",
      "model.read_size=2",
      "model.write_size=3",
    ],
  }[config.partition(":")[0]]


def file_name(*words: str) -> str:
  """The words as the name of a file."""
  return "-".join(word.replace(":", "_").replace(" ", "_") for word in words if word)
