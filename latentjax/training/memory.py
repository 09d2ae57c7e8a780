"""Device memory of a compiled function, checked before it runs."""

import jax

from latentjax import free_memory
from latentjax.errors import RunError


def compile_to_fit(traced: jax.stages.Traced) -> jax.stages.Compiled:
  """Compiles a traced function whose arguments are on their devices.

  Raises:
    RunError: it needs more memory than is free.
  """
  compiled = traced.lower().compile()
  stats = compiled.memory_analysis()
  if stats is not None:  # what the arguments take is taken already
    require(stats.temp_size_in_bytes + stats.output_size_in_bytes - stats.alias_size_in_bytes)
  return compiled


def require(needed: int) -> None:
  """Raises RunError if a device, or the host where that is the device, has fewer bytes left."""
  free = free_bytes()
  if needed > free:
    raise RunError(
      f"a step needs {needed / 2**30:,.1f} GiB of memory, and {free / 2**30:,.1f} GiB are free: lower train.batch_size,"
      " train.num_seeds or the model's sizes; for many steps of DRAW take model.remat=sqrt"
    )


def free_bytes() -> int:
  """Bytes left for a step: on a device of this process, or on the host where that is the device."""
  free = free_memory.of_device()
  return free_memory.of_host() if free is None else free


def needed_bytes(compiled) -> dict[str, int | None]:
  """What the compiled program says it needs: at its peak with its arguments, and for its temporary arrays."""
  stats = compiled.memory_analysis()
  if stats is None:  # a backend that does not say
    return {"peak_memory_bytes": None, "temporary_memory_bytes": None}
  temporary = stats.temp_size_in_bytes
  arguments_and_outputs = stats.argument_size_in_bytes + stats.output_size_in_bytes - stats.alias_size_in_bytes
  return {"peak_memory_bytes": arguments_and_outputs + temporary, "temporary_memory_bytes": temporary}


def mebibytes(count: float | None) -> str:
  return "-" if count is None else f"{count / 2**20:,.1f}"
