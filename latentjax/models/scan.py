"""A recurrence scanned over time: what is kept for its gradient, and when the gradients of its weights are computed.

A recurrent model hands over a pure step whose linear layers go through a function that it is given:

    step(linear, others, carry, inputs at one time) -> (carry, outputs at that time)

linear(name, x) is x W + b of the layer `name`, x [B, I], asked for once per name and step. Whatever the step uses and
may have a gradient is in `others`, never in its closure. Shapes: T steps, B batch, I inputs, O outputs.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from latentjax.models.linear import Layer, linear


def scan_layers(
  step: Callable,
  layers: dict[str, Layer],
  others: Any,
  carry: Any,
  inputs: Any,
  unroll: int = 1,
  weight_gradients: str = "step",
  remat: str = "none",
) -> tuple[Any, Any]:
  """Takes `step` over the leading (time) axis of `inputs`; the last three change speed and memory and no value.

  Args:
    layers: kernel and bias by name, the same at every step.
    others: pytree, the same at every step.
    carry: pytree of [B, ...], the state before the first step.
    inputs: pytree with leading axis T.
    unroll: steps per iteration of the compiled loop.
    weight_gradients: when the gradients of `layers` are computed: at every "step" of the backward pass, or "after" it,
      see `scan_gradients_after`.
    remat: what is computed again for the gradient rather than kept, see `scan_remat`: "none", "step" or "sqrt"; of no
      effect with "after", which keeps all.

  Returns:
    The last carry, and the outputs stacked along a leading axis T.
  """
  if weight_gradients == "after":
    return scan_gradients_after(step, unroll, layers, others, carry, inputs)
  return scan_remat(partial(take_step, step, layers, others), carry, inputs, unroll, remat)


def take_step(step: Callable, layers: dict[str, Layer], others: Any, carry: Any, inputs: Any) -> tuple[Any, Any]:
  return step(lambda name, x: linear(layers[name], x), others, carry, inputs)


def scan_remat(body: Callable, carry: Any, inputs: Any, unroll: int, remat: str) -> tuple[Any, Any]:
  """`jax.lax.scan` whose gradient keeps less and computes the rest again.

  "none" keeps what every step computed. "step" keeps the carry of every step and computes each step twice. "sqrt"
  keeps the carry of about sqrt(T) blocks of steps, and what the steps of one block computed: memory grows with
  sqrt(T) for one more forward pass (Chen et al. 2016, arXiv:1604.06174).
  """
  if remat == "none":
    return jax.lax.scan(body, carry, inputs, unroll=unroll)
  # Inside a loop nothing can be merged with its second computation, so nothing has to be done against that.
  checkpoint = partial(jax.checkpoint, prevent_cse=False)
  if remat == "step":
    return jax.lax.scan(checkpoint(body), carry, inputs, unroll=unroll)

  @checkpoint
  def block(carry, inputs):
    return jax.lax.scan(body, carry, inputs, unroll=min(unroll, length))

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
def scan_gradients_after(
  step: Callable, unroll: int, layers: dict[str, Layer], others: Any, carry: Any, inputs: Any
) -> tuple[Any, Any]:
  """A scan whose backward pass computes the gradients of the layers once, after its loop.

  The gradient of W in y_t = x_t W + b is sum_t x_t^T dy_t: one large product of all steps in place of T small ones,
  each added to an array as large as W. For a device where launches cost more than arithmetic.
  """
  return jax.lax.scan(partial(take_step, step, layers, others), carry, inputs, unroll=unroll)


def scan_forward(step, unroll, layers, others, carry, inputs):
  """Keeps every x_t, and perturbs every y_t by a zero whose gradient is dy_t."""

  def scan_perturbed(others, carry, inputs, zeros):
    def body(carry, inputs):
      inputs, zeros = inputs
      layer_inputs = {}

      def perturbed(name, x):
        layer_inputs[name] = x
        return perturb(linear(layers[name], x), zeros[name])

      carry, outputs = step(perturbed, others, carry, inputs)
      return carry, (outputs, layer_inputs)

    last, (outputs, layer_inputs) = jax.lax.scan(body, carry, (inputs, zeros), unroll=unroll)
    return (last, outputs), layer_inputs

  steps, batch = len(jax.tree.leaves(inputs)[0]), len(jax.tree.leaves(carry)[0])
  zeros = {name: jnp.zeros((steps, batch, layer["bias"].size)) for name, layer in layers.items()}
  result, pull_back, layer_inputs = jax.vjp(scan_perturbed, others, carry, inputs, zeros, has_aux=True)
  return result, (pull_back, layer_inputs)


def scan_backward(step, unroll, residuals, cotangents):
  del step, unroll
  pull_back, layer_inputs = residuals
  *gradients, to_outputs = pull_back(cotangents)
  to_outputs = jax.lax.optimization_barrier(to_outputs)  # or XLA splits the sum below again, by unrolled steps
  to_layers = {
    name: {"kernel": jnp.einsum("tbi,tbo->io", layer_inputs[name], to_output), "bias": to_output.sum((0, 1))}
    for name, to_output in to_outputs.items()
  }
  return to_layers, *gradients


scan_gradients_after.defvjp(scan_forward, scan_backward)


@jax.custom_vjp
def perturb(value: jax.Array, zero: jax.Array) -> jax.Array:
  """value + zero, without the addition; `zero` receives the gradient of the value."""
  del zero
  return value


perturb.defvjp(lambda value, zero: (value, None), lambda _, gradient: (gradient, gradient))
