"""How a recurrence is scanned fast, kept apart from its equations.

A recurrent model hands over a pure step. Whatever makes the scan cheaper belongs here, where it can change without
touching an equation. Shapes: T steps, B batch.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

Kernels = dict[str, jax.Array]


def options(unroll: int, weight_gradients: str, num_steps: int, backend: str) -> tuple[int, bool]:
  """What "auto" stands for on a backend, as benchmarks/NOTES.md found it.

  Args:
    unroll: steps per iteration of the compiled loop; 0 is auto.
    weight_gradients: "step", "after" (the loop) or "auto".
    backend: "cpu", "gpu" or "tpu".

  Returns:
    unroll and whether weight gradients come after the loop.
  """
  auto_unroll, auto_gradients = (1, "step") if backend == "cpu" else (num_steps, "after")
  chosen = auto_gradients if weight_gradients == "auto" else weight_gradients
  return min(unroll or auto_unroll, num_steps), chosen == "after"


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


def scan_products(step: Callable, unroll: int, kernels: Kernels, others: Any, carry: Any, inputs: Any):
  """`scan` for a step whose matrix products with weights go through a function that it is given.

  Args:
    step: pure function (product, others, carry, inputs at one time) -> (carry, outputs at that time); product(name, x)
      is x @ kernels[name], x [B, inputs], asked for once per name.
    unroll: steps per iteration of the compiled loop.
    kernels: matrices by name.
    others: pytree of all else that the step uses and that has a gradient.
    carry, inputs: see `scan`; the leaves of the carry are [B, ...].
  """

  def body(carry, x):
    return step(lambda name, value: value @ kernels[name], others, carry, x)

  return jax.lax.scan(body, carry, inputs, unroll=unroll)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def scan_gradients_after(step: Callable, unroll: int, kernels: Kernels, others: Any, carry: Any, inputs: Any):
  """`scan_products` with a backward pass that computes each kernel's gradient once, after the loop.

  The gradient of W in y_t = x_t W is sum_t x_t^T dy_t: one large product of all steps in place of T small ones, each
  added to an array as large as W. For a device where launches cost more than arithmetic.
  """
  return scan_products(step, unroll, kernels, others, carry, inputs)


def keep_products(step, unroll, kernels, others, carry, inputs):
  """Forward: scans with a slot on every product, whose gradient is dy_t, and keeps every x_t."""

  def scanned(others, carry, inputs, slots):
    def body(carry, x):
      x, slots = x
      met = {}

      def product(name, value):
        met[name] = value
        return with_slot(value @ kernels[name], slots[name])

      carry, outputs = step(product, others, carry, x)
      return carry, (outputs, met)

    last, (outputs, met) = jax.lax.scan(body, carry, (inputs, slots), unroll=unroll)
    return (last, outputs), met

  steps, batch = len(jax.tree.leaves(inputs)[0]), len(jax.tree.leaves(carry)[0])
  slots = {name: jnp.zeros((steps, batch, kernel.shape[-1])) for name, kernel in kernels.items()}
  result, pull_back, met = jax.vjp(scanned, others, carry, inputs, slots, has_aux=True)
  return result, (pull_back, met)


def multiply_after(step, unroll, kept, cotangents):
  del step, unroll
  pull_back, met = kept
  *others, slots = pull_back(cotangents)
  return {name: jnp.einsum("tbi,tbo->io", met[name], slots[name]) for name in met}, *others


scan_gradients_after.defvjp(keep_products, multiply_after)


@jax.custom_vjp
def with_slot(value: jax.Array, slot: jax.Array) -> jax.Array:
  """The value; the slot, which nothing reads, receives its gradient."""
  del slot
  return value


with_slot.defvjp(lambda value, slot: (value, None), lambda _, gradient: (gradient, gradient))
