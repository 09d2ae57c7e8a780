"""Memory and arithmetic of compiled functions."""

from collections.abc import Callable
from math import prod

import jax
import jax.numpy as jnp
import psutil

from latentjax.runtime.errors import RunError
from latentjax.runtime.precision import at_precision


def free_bytes() -> int:
  """Returns the free bytes of a local device, or of the host if the device is a CPU."""
  stats = jax.local_devices()[0].memory_stats()
  return stats["bytes_limit"] - stats["bytes_in_use"] if stats else psutil.virtual_memory().available


def compile_checked(traced: jax.stages.Traced) -> jax.stages.Compiled:
  """Compiles a traced function; raises RunError if it needs more memory than is free."""
  compiled = traced.lower().compile()
  stats = compiled.memory_analysis()
  if stats is not None:  # without the arguments, which are on the devices already
    needed = stats.temp_size_in_bytes + stats.output_size_in_bytes - stats.alias_size_in_bytes
    free = free_bytes()
    if needed > free:
      raise RunError(
        f"A step needs {needed / 2**30:,.1f} GiB of memory and only {free / 2**30:,.1f} GiB are free. Lower"
        " train.batch_size, train.num_seeds or the model's sizes, or set model.remat (draw: sqrt, conv_ladder: True)."
      )
  return compiled


def needed_bytes(compiled: jax.stages.Compiled) -> dict[str, int | None]:
  """Returns the bytes of a compiled program: its peak, arguments included, and its temporary arrays."""
  stats = compiled.memory_analysis()
  if stats is None:  # not every backend reports them
    return {"peak_memory_bytes": None, "temporary_memory_bytes": None}
  temporary = stats.temp_size_in_bytes
  arguments_and_outputs = stats.argument_size_in_bytes + stats.output_size_in_bytes - stats.alias_size_in_bytes
  return {"peak_memory_bytes": arguments_and_outputs + temporary, "temporary_memory_bytes": temporary}


def mebibytes(count: float | None) -> str:
  return "-" if count is None else f"{count / 2**20:,.1f}"


def matmul_flops(jaxpr) -> int:
  """Returns the floating-point operations of matrix products and convolutions in a jaxpr, two per multiply-add.

  A scan counts as often as it runs, a loop of unknown length once, and a condition as its most expensive branch.
  """
  jaxpr = getattr(jaxpr, "jaxpr", jaxpr)  # of a ClosedJaxpr
  return sum(_equation_flops(equation) for equation in jaxpr.eqns)


def _equation_flops(equation) -> int:
  name, parameters = equation.primitive.name, equation.params
  if name == "dot_general":
    (contracted, _), _ = parameters["dimension_numbers"]
    left, out = equation.invars[0].aval, equation.outvars[0].aval
    return 2 * out.size * prod(left.shape[axis] for axis in contracted)
  if name == "conv_general_dilated":
    kernel, out = equation.invars[1].aval, equation.outvars[0].aval
    return 2 * out.size * kernel.size // kernel.shape[parameters["dimension_numbers"].rhs_spec[0]]
  values = jax.tree.leaves(list(parameters.values()))
  inner = [matmul_flops(value) for value in values if hasattr(value, "eqns") or hasattr(value, "jaxpr")]
  if name == "cond":
    return max(inner)
  return sum(inner) * (parameters["length"] if name == "scan" else 1)


def matmul_benchmark(precision: str) -> tuple[Callable[[], jax.Array], int]:
  """Returns a compiled large matrix product, the reference for a machine's speed, and its floating-point operations."""
  size = 2048 if jax.default_backend() == "cpu" else 8192
  left, right = jax.random.normal(jax.random.key(0), (2, size, size))
  product = jax.jit(at_precision(precision, jnp.matmul)).lower(left, right).compile()
  return lambda: product(left, right), 2 * size**3
