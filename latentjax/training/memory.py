"""What a compiled function needs of the device's memory, known before it runs."""

import jax

from latentjax import free_memory
from latentjax.errors import RunError
from latentjax.training.flops import inner_jaxprs


def compile_to_fit(traced: jax.stages.Traced, num_devices: int = 1) -> jax.stages.Compiled:
  """A traced function, compiled; refused where it cannot run.

  What no memory holds is known before it is compiled, the rest after.

  Args:
    traced: for arguments that are on their devices.
    num_devices: that share a batch.

  Raises:
    RunError: it needs more memory than is free.
  """
  require(stacked_bytes(traced.jaxpr) // num_devices)
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


def stacked_bytes(jaxpr) -> int:
  """The most bytes that one scan of a traced function stacks up step by step: at its end they are all there.

  Most of them are what the gradient needs of every step. A lower bound of the memory that the function takes.

  Args:
    jaxpr: as `matmul_flops` takes it.
  """
  jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
  most = 0
  for equation in jaxpr.eqns:
    if equation.primitive.name == "scan":
      body = equation.params["jaxpr"]
      of_a_step = getattr(body, "jaxpr", body).outvars  # as it is in a carry; of what is stacked without its axis
      stacked = [out for out, once in zip(equation.outvars, of_a_step, strict=True) if out.aval.ndim > once.aval.ndim]
      most = max(most, sum(out.aval.size * out.aval.dtype.itemsize for out in stacked))
    most = max([most, *map(stacked_bytes, inner_jaxprs(equation.params))])
  return most


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
