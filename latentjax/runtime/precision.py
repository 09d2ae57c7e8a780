"""How the inputs of matrix products are rounded; sums, weights and all else stay float32."""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

# What `config.precision` asks of every matrix product. A CPU has no tensorfloat32: there that one is float32.
PRECISIONS = {"float32": "float32", "tensorfloat32": "tensorfloat32", "bfloat16": "BF16_BF16_F32"}


def at_precision(precision: str, function: Callable) -> Callable:
  """The function, to be jitted, with its matrix products at a precision of `PRECISIONS`."""

  def precise(*args):
    with jax.default_matmul_precision(PRECISIONS[precision]):
      if precision == "bfloat16" and jax.default_backend() == "cpu":
        return lower_bf16_matmuls(function, *args)
      return function(*args)

  return precise


def lower_bf16_matmuls(function: Callable, *args):
  """function(*args), whose products at `bfloat16` round their inputs by operations of their own.

  XLA for a CPU reads over a product's precision, and has fast products of bfloat16 where the processor has.
  """
  closed, shapes = jax.make_jaxpr(lambda: function(*args), return_shape=True)()
  return jax.tree.unflatten(jax.tree.structure(shapes), rewrite_jaxpr(closed.jaxpr, closed.consts, ()))


def rewrite_jaxpr(jaxpr: Jaxpr, constants: Sequence[jax.Array], args: Sequence[jax.Array]) -> list[jax.Array]:
  """The outputs of a program, as `spelled_out`."""
  values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *args], strict=True))

  def value(atom):
    return atom.val if isinstance(atom, Literal) else values[atom]

  for equation in jaxpr.eqns:
    outputs = rewrite_equation(equation, [value(atom) for atom in equation.invars])
    values.update(zip(equation.outvars, outputs, strict=True))
  return [value(atom) for atom in jaxpr.outvars]


def rewrite_equation(equation: JaxprEqn, inputs: list[jax.Array]) -> Sequence[jax.Array]:
  """The outputs of one operation, as `spelled_out`."""
  primitive, parameters = equation.primitive, equation.params
  if parameters.get("precision") == lax.DotAlgorithmPreset.BF16_BF16_F32:
    return [bf16_dot_general(*inputs, parameters["dimension_numbers"])]
  parameters = {name: rewrite_subjaxpr(parameter) for name, parameter in parameters.items()}
  with equation.ctx.manager:
    outputs = primitive.bind(*inputs, **primitive.get_bind_params(parameters))
  return outputs if primitive.multiple_results else [outputs]


def bf16_dot_general(x: jax.Array, y: jax.Array, dimension_numbers) -> jax.Array:
  """dot_general of both inputs rounded to bfloat16, summed in float32.

  XLA has products of bfloat16 for a matrix whose rows are summed over. Others, as those for the gradient of weights, it
  computes in float32, or says when it runs that it cannot; and many small ones, of an example each, are slower in
  bfloat16. So all these are products of float32 that hold the rounded values.
  """
  (x_inner, _), (x_batch, _) = dimension_numbers
  if tuple(x_inner) == (x.ndim - 1,) and not x_batch:
    x, y = x.astype(jnp.bfloat16), y.astype(jnp.bfloat16)
  else:
    x, y = (lax.reduce_precision(one, exponent_bits=8, mantissa_bits=7) for one in (x, y))
  return lax.dot_general(x, y, dimension_numbers, preferred_element_type=jnp.float32, precision="highest")


def rewrite_subjaxpr(parameter):
  """A parameter of an operation, as `spelled_out` where it is a program: a loop's body, or a branch."""
  if isinstance(parameter, ClosedJaxpr):
    return jax.make_jaxpr(lambda *args: rewrite_jaxpr(parameter.jaxpr, parameter.consts, args))(*parameter.in_avals)
  if isinstance(parameter, Jaxpr):
    return jax.make_jaxpr(lambda *args: rewrite_jaxpr(parameter, (), args))(
      *(atom.aval for atom in parameter.invars)
    ).jaxpr
  if type(parameter) is tuple:
    return tuple(rewrite_subjaxpr(one) for one in parameter)
  return parameter


# A product that stands for additions: as exact as they are, whatever precision a config asks of its products.
exact_product = partial(jnp.matmul, precision="highest")
