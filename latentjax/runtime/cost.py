"""Memory and arithmetic of compiled functions."""

from collections.abc import Callable, Iterator
from math import prod

import jax
import jax.numpy as jnp
import psutil

from latentjax.runtime.errors import RunError
from latentjax.runtime.precision import at_precision


def free_host_bytes() -> int:
  """Bytes that the host could still give."""
  return psutil.virtual_memory().available


def free_device_bytes() -> int | None:
  """Bytes left on a device of this process; None on a CPU, whose memory is the host's."""
  stats = jax.local_devices()[0].memory_stats()
  return stats["bytes_limit"] - stats["bytes_in_use"] if stats else None


def compile_checked(traced: jax.stages.Traced) -> jax.stages.Compiled:
  """Compiles a traced function whose arguments are on their devices.

  Raises:
    RunError: it needs more memory than is free.
  """
  compiled = traced.lower().compile()
  stats = compiled.memory_analysis()
  if stats is not None:  # what the arguments take is taken already
    check_memory(stats.temp_size_in_bytes + stats.output_size_in_bytes - stats.alias_size_in_bytes)
  return compiled


def check_memory(needed: int) -> None:
  """Raises RunError if a device, or the host where that is the device, has fewer bytes left."""
  free = free_bytes()
  if needed > free:
    raise RunError(
      f"a step needs {needed / 2**30:,.1f} GiB of memory, and {free / 2**30:,.1f} GiB are free: lower train.batch_size,"
      " train.num_seeds or the model's sizes; for many steps of DRAW take model.remat=sqrt"
    )


def free_bytes() -> int:
  """Bytes left for a step: on a device of this process, or on the host where that is the device."""
  free = free_device_bytes()
  return free_host_bytes() if free is None else free


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


def matmul_flops(jaxpr) -> int:
  """Floating-point operations, two for each multiplication with its addition, of a traced function.

  What a function computes once before a scan counts once, and a gradient that nobody asks for counts nothing.

  Args:
    jaxpr: as `jax.jit(f).trace(...)` or `jax.make_jaxpr(f)(...)` gives it. A loop whose length is unknown counts once;
      of a condition's branches the dearest counts.
  """
  jaxpr = getattr(jaxpr, "jaxpr", jaxpr)  # without its constants
  return sum(equation_flops(equation) for equation in jaxpr.eqns)


def equation_flops(equation) -> int:
  name, parameters = equation.primitive.name, equation.params
  if name == "dot_general":
    (contracted, _), _ = parameters["dimension_numbers"]
    left, out = equation.invars[0].aval, equation.outvars[0].aval
    return 2 * out.size * prod(left.shape[axis] for axis in contracted)
  if name == "conv_general_dilated":
    kernel, out = equation.invars[1].aval, equation.outvars[0].aval
    return 2 * out.size * kernel.size // kernel.shape[parameters["dimension_numbers"].rhs_spec[0]]
  inner = [matmul_flops(jaxpr) for jaxpr in inner_jaxprs(parameters)]
  if name == "cond":
    return max(inner)
  return sum(inner) * (parameters["length"] if name == "scan" else 1)


def inner_jaxprs(parameters: dict) -> Iterator:
  for value in parameters.values():
    for one in value if isinstance(value, tuple | list) else [value]:
      if hasattr(one, "eqns") or hasattr(one, "jaxpr"):
        yield one


def matmul_benchmark(precision: str) -> tuple[Callable[[], jax.Array], int]:
  """A large matrix product as the machine's yardstick, compiled, and its floating-point operations.

  Args:
    precision: as `config.precision`.
  """
  size = 2048 if jax.default_backend() == "cpu" else 8192
  left, right = jax.random.normal(jax.random.key(0), (2, size, size))
  product = jax.jit(at_precision(precision, jnp.matmul)).lower(left, right).compile()
  return lambda: product(left, right), 2 * size**3
