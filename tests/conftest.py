"""What every test runs under: strict JAX, exact matrix products, and no data but what a test makes."""

import os
from collections.abc import Iterator
from pathlib import Path

# Compiling is most of a test's time. What main.py's processes compile they keep, beside the tiny set, for each other.
# JAX_DISABLE_MOST_OPTIMIZATIONS=0 runs any test as users run the code.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

import jax
import numpy as np
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)
jax.config.update("jax_default_matmul_precision", "highest")  # oracles are float64: no TF32 or bfloat16 on accelerators


@pytest.fixture(scope="session", autouse=True)
def tiny_cache(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[Path]:
  """The cache of decoded sets for all tests and their subprocesses: `tiny` has 48 / 20 / 20 grey images.

  Autouse, so that no test ever reads or writes the cache of the person who runs it. All workers share it.
  """
  base = tmp_path_factory.getbasetemp().resolve()
  directory = (base if worker_id == "master" else base.parent) / "cache"
  directory.mkdir(exist_ok=True)
  generator = np.random.default_rng(0)
  sizes = {"train": 48, "validation": 20, "test": 20}
  splits = {split: generator.integers(0, 256, (size, 28, 28, 1), np.uint8) for split, size in sizes.items()}
  np.savez(base / "tiny.npz", **splits)
  (base / "tiny.npz").rename(directory / "tiny.npz")  # whole at once: the other worker may read it
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("LATENTJAX_CACHE_DIR", str(directory))
    yield directory
