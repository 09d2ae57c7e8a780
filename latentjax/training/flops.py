"""How much arithmetic a step asks for, and how much this machine can do.

Only matrix products and convolutions count. XLA's own count takes the body of a loop once; here a scan counts as
often as it runs.
"""

from collections.abc import Callable, Iterator
from math import prod

import jax
import jax.numpy as jnp

from latentjax.training.precision import at_precision


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


def create_product(precision: str) -> tuple[Callable[[], jax.Array], int]:
  """A large matrix product as the machine's yardstick, compiled, and its floating-point operations.

  Args:
    precision: as `config.precision`.
  """
  size = 2048 if jax.default_backend() == "cpu" else 8192
  left, right = jax.random.normal(jax.random.key(0), (2, size, size))
  product = jax.jit(at_precision(precision, jnp.matmul)).lower(left, right).compile()
  return lambda: product(left, right), 2 * size**3
