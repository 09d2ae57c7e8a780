"""JAX settings that change or prevent this project's computations, pinned regardless of environment and caller."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import jax

# Each is a context manager of the module `jax`, and with the prefix jax_ an option of `jax.config`.
SETTINGS = {
  "threefry_partitionable": True,
  "default_prng_impl": "threefry2x32",
  "enable_x64": False,
  "numpy_dtype_promotion": "standard",
  "transfer_guard": "allow",
  "disable_jit": False,  # compiled programs cannot run without jit
}


@contextmanager
def pinned_settings() -> Iterator[None]:
  """Pins the settings of this thread, within a `with` statement or a decorated function."""
  with ExitStack() as stack:
    for name, value in SETTINGS.items():
      stack.enter_context(getattr(jax, name)(value))
    yield


def pin_settings() -> None:
  """Pins the settings of all threads, which only the command line may do."""
  for name, value in SETTINGS.items():
    jax.config.update(f"jax_{name}", value)
