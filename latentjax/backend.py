"""JAX, started under the environment that latentjax needs; nothing that imports it may be imported before."""

import importlib
import os
import sys
import warnings

from ml_collections import ConfigDict

from latentjax.data.cache import cache_dir
from latentjax.errors import UsageError, last_line

NOT_ON = ("", "0", "f", "false", "n", "no", "off")  # what JAX takes for False


def start(config: ConfigDict) -> None:
  """Imports JAX under the environment that latentjax needs.

  Where the config allows it, JAX keeps what it compiles; its own variables have the last word.

  Raises:
    UsageError: a variable of JAX has no such value, or one under which nothing here can run.
  """
  if os.environ.get("JAX_DISABLE_JIT", "").lower() not in NOT_ON:
    raise UsageError("JAX_DISABLE_JIT is set, and latentjax compiles all that it runs: unset it")
  if os.environ.get("JAX_ENABLE_X64", "").lower() not in NOT_ON:
    os.environ["JAX_ENABLE_X64"] = "0"
    print("JAX_ENABLE_X64 is passed over: latentjax computes in float32", file=sys.stderr)
  if config.compile_cache:
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache_dir() / "compiled"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")  # then nothing is kept
  try:
    importlib.import_module("jax")
  except ValueError as error:
    raise UsageError(f"JAX cannot start: {last_line(error)}") from None


def require_devices() -> None:
  """Raises UsageError where JAX finds none of the devices that it is told to take."""
  import jax  # not before `start`

  asked = os.environ.get("JAX_PLATFORMS", "")
  try:
    jax.devices()
  except (RuntimeError, AssertionError) as error:  # the latter is all that it says without any device
    reason = last_line(error).partition(" (set JAX_PLATFORMS")[0] if str(error) else "there is no such device here"
    raise UsageError(
      f"{f'JAX_PLATFORMS={asked}' if asked else 'JAX'}: {reason}. JAX_PLATFORMS=cpu always works; for a GPU or TPU JAX"
      " must be installed with its support, see README.md"
    ) from None
