"""Settings of all tests: strict JAX, exact matrix products, no data but the tests' own, shared compiled programs."""

import ctypes
import fcntl
import functools
import gc
import os
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

# Compiling is most of a test's time. Tests, their subprocesses and the workers of xdist, which inherit the variables,
# share what they compile, and so does the next run. JAX_DISABLE_MOST_OPTIMIZATIONS=0 runs any test as users run the
# code.
if os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1") == "1":  # with these flags, four times as fast
  os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_parallel_codegen_split_count=1"
  if version("jaxlib").startswith("0.10."):  # later versions do not know it, and end the process
    os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "programs"))

import command
import jax
import numpy as np
import psutil
import pytest
import tiny
from matplotlib.figure import Figure

from latentjax.inference import trained_model
from latentjax.training import experiment, trainer
from latentjax.workdir import plots

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)
jax.config.update("jax_default_matmul_precision", "highest")  # oracles are float64: no TF32 or bfloat16 on accelerators


@pytest.fixture(scope="module", autouse=True)
def bounded_memory() -> Iterator[None]:
  """Frees the compiled programs of this worker if it has grown: with all of them it would reach 3 GB."""
  yield
  if psutil.Process().memory_info().rss < 1.2e9:
    return
  jax.clear_caches()
  gc.collect()
  if sys.platform == "linux":
    ctypes.CDLL(None).malloc_trim(0)  # else glibc keeps most of what was freed


@pytest.fixture(scope="session", autouse=True)
def tiny_cache(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[Path]:
  """The cache of decoded datasets for all tests and their subprocesses: `tiny` has 48 / 20 / 20 gray images.

  Autouse, so that no test reads or writes the user's own cache. All workers share it.
  """
  base = tmp_path_factory.getbasetemp().resolve()
  directory = (base if worker_id == "master" else base.parent) / "cache"
  directory.mkdir(exist_ok=True)
  generator = np.random.default_rng(0)
  sizes = {"train": 48, "validation": 20, "test": 20}
  splits = {split: generator.integers(0, 256, (size, 28, 28, 1), np.uint8) for split, size in sizes.items()}
  np.savez(base / "tiny.npz", **splits)
  (base / "tiny.npz").rename(directory / "tiny.npz")  # atomic: the other worker may be reading it
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("LATENTJAX_CACHE_DIR", str(directory))
    yield directory


@pytest.fixture(scope="session")
def trained_run(tiny_cache: Path) -> Callable[[str], Path]:
  """Returns the workdir of a model's finished run of two epochs; tests that change it copy it first."""

  @functools.cache
  def train(model: str) -> Path:
    workdir = tiny_cache.parent / "trained" / model
    workdir.parent.mkdir(exist_ok=True)
    with open(f"{workdir}.lock", "w") as lock:
      fcntl.flock(lock, fcntl.LOCK_EX)  # all workers share it
      if not workdir.exists():
        command.call_ok(f"--workdir={workdir}", *tiny.flags(model, {"train.epochs": 2}))
    return workdir

  return train


class SmallFigure(Figure):
  """A figure of few pixels without constrained layout, which takes most of the time of a tiny training's pictures."""

  def __init__(self, layout: str, **options):
    super().__init__(**options)

  def savefig(self, file, dpi: int, format: str = "png") -> None:
    super().savefig(file, dpi=20, format=format)


@pytest.fixture(scope="session", autouse=True)
def small_figures() -> Iterator[None]:
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(plots, "Figure", SmallFigure)
    yield


@pytest.fixture
def full_size_figures(monkeypatch: pytest.MonkeyPatch) -> None:
  monkeypatch.setattr(plots, "Figure", Figure)


def memoized(function: Callable, key: Callable) -> Callable:
  """Returns `function`, computed once for every value that `key` has of its arguments."""
  made = {}

  def call(*args):
    if key(*args) not in made:
      made[key(*args)] = function(*args)
    return made[key(*args)]

  return call


NOT_TRACED = ("early_stopping_patience", "log_images_every", "profile_steps", "steps_per_call")


@pytest.fixture(scope="session", autouse=True)
def shared_programs() -> Iterator[None]:
  """Lets all runs that have the same model and recipe share what is traced and compiled."""

  def recipe(config, model, num_images, mesh=None):
    unused = ("epochs", *NOT_TRACED) if config.train.schedule == "constant" else NOT_TRACED
    train = {key: value for key, value in config.train.items() if key not in unused}
    data = config.data.name, config.data.binarization
    return config.precision, data, tuple(train.items()), model, num_images, mesh

  def inference(config, model, mesh=None):
    return config.precision, config.train.num_seeds, model, mesh

  def training(experiment, state, feed):
    return experiment.train_fns, type(feed), tuple(feed.counts)

  create_inference_fns = memoized(experiment.create_inference_fns, inference)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(experiment, "create_inference_fns", create_inference_fns)
    patch.setattr(trained_model, "create_inference_fns", create_inference_fns)
    patch.setattr(experiment, "create_train_fns", memoized(experiment.create_train_fns, recipe))
    patch.setattr(trainer, "compile_train", memoized(trainer.compile_train, training))
    yield
