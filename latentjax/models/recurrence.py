"""How a recurrence is scanned fast, kept apart from its equations.

A recurrent model hands over a pure `step(weights, carry, inputs) -> (carry, outputs)`. Whatever makes the
scan cheaper belongs here, where it can change without touching an equation.
"""

from collections.abc import Callable
from typing import Any

import jax


def scan(step: Callable, weights: Any, carry: Any, inputs: Any) -> tuple[Any, Any]:
  """Runs `step` over the leading (time) axis of `inputs`.

  Args:
    step: pure function (weights, carry, inputs at one time) -> (carry, outputs at that time).
    weights: pytree, the same at every step.
    carry: pytree, the state before the first step.
    inputs: pytree with leading axis T.

  Returns:
    The last carry, and the outputs stacked along a leading axis T.
  """
  return jax.lax.scan(lambda carry, x: step(weights, carry, x), carry, inputs)


def scan_products(step: Callable, kernels: dict[str, jax.Array], carry: Any, inputs: Any) -> tuple[Any, Any]:
  """`scan` for a step whose matrix products with weights go through a function that it is given.

  Args:
    step: function (product, carry, inputs at one time) -> (carry, outputs at that time), where
      product(name, x) is x @ kernels[name], asked for once per name.
    kernels, carry, inputs: see `scan`.
  """
  return scan(lambda kernels, carry, x: step(lambda name, v: v @ kernels[name], carry, x), kernels, carry, inputs)
