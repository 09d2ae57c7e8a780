"""Precision of matrix products and convolutions: inputs are rounded; sums, weights and all else stay float32."""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

# `config.precision` to JAX's matmul precision. A CPU has no tensorfloat32 and computes in float32 instead.
# Accelerators compute a convolution at `bfloat16` with their default precision.
PRECISIONS = {"float32": "float32", "tensorfloat32": "tensorfloat32", "bfloat16": "BF16_BF16_F32"}


def at_precision(precision: str, function: Callable) -> Callable:
  """Returns the function, to be jitted, with its matrix products at one of `PRECISIONS`."""

  def precise(*args):
    with jax.default_matmul_precision(PRECISIONS[precision]):
      if precision == "bfloat16" and jax.default_backend() == "cpu":
        return _lower_bf16_matmuls(function, *args)
      return function(*args)

  return precise


def _lower_bf16_matmuls(function: Callable, *args):
  """Returns function(*args), with products at `bfloat16` replaced by ones that round their inputs explicitly.

  XLA for CPUs ignores the precision of float32 products, but multiplies bfloat16 fast on processors that support it.
  """
  closed, shapes = jax.make_jaxpr(lambda: function(*args), return_shape=True)()
  return jax.tree.unflatten(jax.tree.structure(shapes), _rewrite_jaxpr(closed.jaxpr, closed.consts, ()))


def _rewrite_jaxpr(jaxpr: Jaxpr, constants: Sequence[jax.Array], args: Sequence[jax.Array]) -> list[jax.Array]:
  values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *args], strict=True))

  def value(atom):
    return atom.val if isinstance(atom, Literal) else values[atom]

  for equation in jaxpr.eqns:
    inputs, primitive, parameters = map(value, equation.invars), equation.primitive, equation.params
    rounds = parameters.get("precision") == lax.DotAlgorithmPreset.BF16_BF16_F32
    if rounds and primitive is lax.dot_general_p:
      outputs = _bf16_dot_general(*inputs, parameters["dimension_numbers"])
    elif rounds:  # a convolution
      outputs = primitive.bind(*map(_round_to_bf16, inputs), **parameters | {"precision": None})
    else:
      parameters = {name: _rewrite_subjaxpr(parameter) for name, parameter in parameters.items()}
      with equation.ctx.manager:
        outputs = primitive.bind(*inputs, **primitive.get_bind_params(parameters))
    values.update(zip(equation.outvars, outputs if primitive.multiple_results else [outputs], strict=True))
  return list(map(value, jaxpr.outvars))


def _bf16_dot_general(x: jax.Array, y: jax.Array, dimension_numbers) -> jax.Array:
  """Returns dot_general of both inputs rounded to bfloat16, summed in float32.

  XLA has bfloat16 kernels for a matrix whose rows are summed over. Other products, such as those for the gradient of
  weights, it computes in float32 or refuses at run time, and batches of small ones are slower in bfloat16: these are
  float32 products of the rounded values.
  """
  (x_inner, _), (x_batch, _) = dimension_numbers
  if tuple(x_inner) == (x.ndim - 1,) and not x_batch:
    x, y = x.astype(jnp.bfloat16), y.astype(jnp.bfloat16)
  else:
    x, y = _round_to_bf16(x), _round_to_bf16(y)
  return lax.dot_general(x, y, dimension_numbers, preferred_element_type=jnp.float32, precision="highest")


def _round_to_bf16(x: jax.Array) -> jax.Array:
  return lax.reduce_precision(x, exponent_bits=8, mantissa_bits=7)


def _rewrite_subjaxpr(parameter):
  """Returns a parameter of an operation, rewritten if it is a program: the body of a loop, or a branch."""
  if isinstance(parameter, ClosedJaxpr):
    return jax.make_jaxpr(lambda *args: _rewrite_jaxpr(parameter.jaxpr, parameter.consts, args))(*parameter.in_avals)
  if isinstance(parameter, Jaxpr):
    return _rewrite_subjaxpr(ClosedJaxpr(parameter, ())).jaxpr
  if type(parameter) is tuple:
    return tuple(_rewrite_subjaxpr(item) for item in parameter)
  return parameter


# For sums written as products, which `config.precision` must not round.
exact_product = partial(jnp.matmul, precision="highest")
