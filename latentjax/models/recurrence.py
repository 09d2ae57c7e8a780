"""How a recurrence is scanned fast, kept apart from its equations.

A recurrent model hands over a pure step. Whatever makes the scan cheaper belongs here, where it can change without
touching an equation. Shapes: T steps, B batch.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Layers = dict[str, dict[str, jax.Array]]


class Options(NamedTuple):
  """How a recurrence is scanned: speed and memory, never a value.

  Attributes:
    unroll: steps per iteration of the compiled loop.
    gradients_after: whether weight gradients are computed once after the loop, see `scan_gradients_after`: where a
      launch costs more than arithmetic.
    remat: what is computed again for the gradient in place of being kept, see `scan_again`: "none", "step", "sqrt".
  """

  unroll: int
  gradients_after: bool
  remat: str


def options(unroll: int, weight_gradients: str, remat: str, num_steps: int, backend: str) -> Options:
  """What "auto" stands for on a backend, as benchmarks/NOTES.md found it.

  What saves memory by computing again goes with none of the two that cost memory for speed.

  Args:
    unroll: steps per iteration of the compiled loop; 0 is auto.
    weight_gradients: "step", "after" (the loop) or "auto".
    remat: "none", "step" or "sqrt".
    backend: "cpu", "gpu" or "tpu".
  """
  fast = backend != "cpu" and remat == "none"
  auto_unroll, auto_gradients = (num_steps, "after") if fast else (1, "step")
  chosen = auto_gradients if weight_gradients == "auto" else weight_gradients
  return Options(min(unroll or auto_unroll, num_steps), chosen == "after", remat)


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


def scan_layers(
  step: Callable, how: Options, layers: Layers, last_layers: Layers, others: Any, carry: Any, inputs: Any
) -> tuple[Any, Any]:
  """`scan` for a step whose linear layers go through a function that it is given.

  Args:
    step: pure function (linear, others, carry, inputs at one time) -> (carry, outputs at that time); linear(name, x)
      is x W + b, x [B, inputs], asked for once per name.
    layers: kernel W and bias b by name.
    last_layers: the same without those outputs that only a next step would use. The last step is made of these, outside
      of the loop, unless a launch costs more than arithmetic.
    others: pytree of all else that the step uses and that has a gradient.
    carry, inputs: see `scan`; the leaves of the carry are [B, ...].
  """
  if how.gradients_after:
    return scan_gradients_after(step, how.unroll, layers, others, carry, inputs)

  before, last = jax.tree.map(lambda x: x[:-1], inputs), jax.tree.map(lambda x: x[-1], inputs)
  carry, outputs = scan_again(partial(take_step, step, layers, others), carry, before, how)
  carry, output = take_step(step, last_layers, others, carry, last)
  return carry, jax.tree.map(lambda some, one: jnp.concatenate([some, one[None]]), outputs, output)


def take_step(step: Callable, layers: Layers, others: Any, carry: Any, inputs: Any) -> tuple[Any, Any]:
  return step(lambda name, value: dense(layers[name], value), others, carry, inputs)


def scan_again(body: Callable, carry: Any, inputs: Any, how: Options) -> tuple[Any, Any]:
  """`jax.lax.scan` whose gradient keeps less and computes the rest again, by `how.remat`.

  "none" keeps what every step computed. "step" keeps the carry of every step and computes each step twice. "sqrt"
  keeps the carry of about sqrt(T) blocks of steps, and what the steps of one block computed: memory grows with
  sqrt(T) for one more forward pass (Chen et al. 2016, arXiv:1604.06174).
  """
  if how.remat == "none":
    return jax.lax.scan(body, carry, inputs, unroll=how.unroll)
  # Inside a loop nothing can be merged with its second computation, so nothing has to be done against that.
  checkpoint = partial(jax.checkpoint, prevent_cse=False)
  if how.remat == "step":
    return jax.lax.scan(checkpoint(body), carry, inputs, unroll=how.unroll)

  @checkpoint
  def block(carry, inputs):
    return jax.lax.scan(body, carry, inputs, unroll=min(how.unroll, length))

  steps = len(jax.tree.leaves(inputs)[0])
  length = max(math.isqrt(steps), 1)
  whole = steps // length * length
  blocks = jax.tree.map(lambda x: x[:whole].reshape(steps // length, length, *x.shape[1:]), inputs)
  carry, outputs = jax.lax.scan(block, carry, blocks)
  outputs = jax.tree.map(lambda x: x.reshape(whole, *x.shape[2:]), outputs)
  if whole < steps:
    carry, last = block(carry, jax.tree.map(lambda x: x[whole:], inputs))
    outputs = jax.tree.map(lambda *parts: jnp.concatenate(parts), outputs, last)
  return carry, outputs


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def scan_gradients_after(step: Callable, unroll: int, layers: Layers, others: Any, carry: Any, inputs: Any):
  """`scan_layers` with a backward pass that computes the gradients of the layers once, after the loop.

  The gradient of W in y_t = x_t W + b is sum_t x_t^T dy_t: one large product of all steps in place of T small ones,
  each added to an array as large as W. For a device where launches cost more than arithmetic.
  """
  return jax.lax.scan(partial(take_step, step, layers, others), carry, inputs, unroll=unroll)


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
