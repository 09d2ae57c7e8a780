"""JAX's settings that decide or block this project's numbers, pinned whatever the environment or a caller has set."""

from collections.abc import Iterator
from contextlib import contextmanager

import jax


@contextmanager
def pinned_settings() -> Iterator[None]:
  """Pins the settings of this thread, within a `with` statement or a decorated function."""
  with (
    jax.threefry_partitionable(True),
    jax.default_prng_impl("threefry2x32"),
    jax.enable_x64(False),
    jax.numpy_dtype_promotion("standard"),
    jax.transfer_guard("allow"),
    jax.disable_jit(False),
  ):
    yield


def pin_settings() -> None:
  """Pins the settings of all threads, which only the command line may do."""
  jax.config.update("jax_threefry_partitionable", True)
  jax.config.update("jax_default_prng_impl", "threefry2x32")
  jax.config.update("jax_enable_x64", False)
  jax.config.update("jax_numpy_dtype_promotion", "standard")
  jax.config.update("jax_transfer_guard", "allow")
