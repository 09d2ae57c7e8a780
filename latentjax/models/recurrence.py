"""How a recurrence is scanned fast, kept apart from its equations.

A recurrent model hands over a pure step. Whatever makes the scan cheaper belongs here, where it can change without
touching an equation. Shapes: T steps, B batch.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

Layers = dict[str, dict[str, jax.Array]]


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


def scan_layers(step: Callable, unroll: int, layers: Layers, others: Any, carry: Any, inputs: Any):
  """`scan` for a step whose linear layers go through a function that it is given.

  Args:
    step: pure function (linear, others, carry, inputs at one time) -> (carry, outputs at that time); linear(name, x)
      is x W + b, x [B, inputs], asked for once per name.
    unroll: steps per iteration of the compiled loop.
    layers: kernel W and bias b by name.
    others: pytree of all else that the step uses and that has a gradient.
    carry, inputs: see `scan`; the leaves of the carry are [B, ...].
  """

  def body(carry, x):
    return step(lambda name, value: dense(layers[name], value), others, carry, x)

  return jax.lax.scan(body, carry, inputs, unroll=unroll)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def scan_gradients_after(step: Callable, unroll: int, layers: Layers, others: Any, carry: Any, inputs: Any):
  """`scan_layers` with a backward pass that computes the gradients of the layers once, after the loop.

  The gradient of W in y_t = x_t W + b is sum_t x_t^T dy_t: one large product of all steps in place of T small ones,
  each added to an array as large as W. For a device where launches cost more than arithmetic.
  """
  return scan_layers(step, unroll, layers, others, carry, inputs)


def keep_inputs(step, unroll, layers, others, carry, inputs):
  """Forward: scans with a slot on every layer's output, whose gradient is dy_t, and keeps every x_t."""

  def scanned(others, carry, inputs, slots):
    def body(carry, x):
      x, slots = x
      met = {}

      def linear(name, value):
        met[name] = value
        return with_slot(dense(layers[name], value), slots[name])

      carry, outputs = step(linear, others, carry, x)
      return carry, (outputs, met)

    last, (outputs, met) = jax.lax.scan(body, carry, (inputs, slots), unroll=unroll)
    return (last, outputs), met

  steps, batch = len(jax.tree.leaves(inputs)[0]), len(jax.tree.leaves(carry)[0])
  slots = {name: jnp.zeros((steps, batch, layer["bias"].size)) for name, layer in layers.items()}
  result, pull_back, met = jax.vjp(scanned, others, carry, inputs, slots, has_aux=True)
  return result, (pull_back, met)


def multiply_after(step, unroll, kept, cotangents):
  del step, unroll
  pull_back, met = kept
  *others, slots = pull_back(cotangents)
  slots = jax.lax.optimization_barrier(slots)  # or the sum below is split again into one of each unrolled step
  layers = {
    name: {"kernel": jnp.einsum("tbi,tbo->io", met[name], slot), "bias": slot.sum((0, 1))}
    for name, slot in slots.items()
  }
  return layers, *others


scan_gradients_after.defvjp(keep_inputs, multiply_after)


def dense(weights: dict[str, jax.Array], x: jax.Array) -> jax.Array:
  """[B, outputs] x W + b of x [B, inputs]."""
  return x @ weights["kernel"] + weights["bias"][None]


@jax.custom_vjp
def with_slot(value: jax.Array, slot: jax.Array) -> jax.Array:
  """The value; the slot, which nothing reads, receives its gradient."""
  del slot
  return value


with_slot.defvjp(lambda value, slot: (value, None), lambda _, gradient: (gradient, gradient))
