"""LSTM cell and scans over its steps, as pure functions.

Shapes: B batch, U hidden units, I all inputs side by side, T steps.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from latentjax.models.layers import Layer, linear

LSTMWeights = dict[str, jax.Array]


@struct.dataclass
class LSTMState:
  """hidden: [B, U] the cell's output; cell: [B, U] its memory."""

  hidden: jax.Array
  cell: jax.Array


def init_lstm(key: jax.Array, kernel_init, inputs: int, units: int, layer_norm: bool) -> LSTMWeights:
  """Weights of a cell; the forget gate starts open (bias 1).

  Args:
    kernel_init: (key, shape) -> array, for the one kernel of all inputs, the hidden state and all gates.
    inputs: I. units: U.
    layer_norm: add gains and biases for the four gates and the cell.
  """
  bias = jnp.zeros((4, units)).at[1].set(1.0).reshape(-1)
  weights = {"kernel": kernel_init(key, (inputs + units, 4 * units)), "bias": bias}
  if layer_norm:
    weights |= {"gate_scale": jnp.ones((4, units)), "cell_scale": jnp.ones(units), "cell_bias": jnp.zeros(units)}
  return weights


def lstm(weights: LSTMWeights, state: LSTMState, inputs: Sequence[jax.Array]) -> LSTMState:
  """One step (Hochreiter & Schmidhuber 1997, with forget gate and without peepholes).

      i, f, g, o = [inputs, h] W + b,  c' = sigmoid(f) c + sigmoid(i) tanh(g),  h' = sigmoid(o) tanh(c')

  Args:
    inputs: arrays [B, ...], put side by side.
  """
  product = jnp.concatenate([*inputs, state.hidden], axis=-1) @ weights["kernel"]  # [B, 4 U]
  return lstm_cell(weights, product + product_bias(weights)[None], state.cell)


def product_bias(weights: LSTMWeights) -> jax.Array:
  """[4 U] what is added to the product: the bias, but 0 where layer norm comes in between."""
  return jnp.zeros_like(weights["bias"]) if "gate_scale" in weights else weights["bias"]


def lstm_cell(weights: LSTMWeights, preactivation: jax.Array, cell: jax.Array) -> LSTMState:
  """The step after its product.

  With layer-norm weights each gate's pre-activation and the cell seen by the output are normalised over
  units (Ba et al. 2016, arXiv:1607.06450), the input and recurrent contributions together.

  Args:
    preactivation: [B, 4 U] [inputs, h] W + `product_bias`. cell: [B, U] before the step.
  """
  normalised = "gate_scale" in weights
  if normalised:
    gates = preactivation.reshape(*preactivation.shape[:-1], 4, -1)  # [B, 4, U]
    scaled = normalize(gates) * weights["gate_scale"][None]
    preactivation = scaled.reshape(preactivation.shape) + weights["bias"][None]
  i, f, g, o = jnp.split(preactivation, 4, axis=-1)
  cell = update_cell(i, f, g, cell)
  seen = normalize(cell) * weights["cell_scale"][None] + weights["cell_bias"][None] if normalised else cell
  return LSTMState(hidden=cell_output(o, seen), cell=cell)


# The gradients of the next two are written out because they need fewer arrays of a step than automatic ones keep: no
# slope beside the value that it follows from.


@jax.custom_vjp
def update_cell(i: jax.Array, f: jax.Array, g: jax.Array, cell: jax.Array) -> jax.Array:
  """sigmoid(f) c + sigmoid(i) tanh(g)."""
  return update_cell_forward(i, f, g, cell)[0]


def update_cell_forward(i, f, g, cell):
  i, f, g = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g)
  return f * cell + i * g, (i, f, g, cell)


def update_cell_backward(residuals, gradient):
  i, f, g, cell = residuals
  return gradient * g * i * (1 - i), gradient * cell * f * (1 - f), gradient * i * (1 - g * g), gradient * f


update_cell.defvjp(update_cell_forward, update_cell_backward)


@jax.custom_vjp
def cell_output(o: jax.Array, cell: jax.Array) -> jax.Array:
  """sigmoid(o) tanh(c)."""
  return cell_output_forward(o, cell)[0]


def cell_output_forward(o, cell):
  o, tanh_cell = jax.nn.sigmoid(o), jnp.tanh(cell)
  return o * tanh_cell, (o, tanh_cell)


def cell_output_backward(residuals, gradient):
  o, tanh_cell = residuals
  return gradient * tanh_cell * o * (1 - o), gradient * o * (1 - tanh_cell * tanh_cell)


cell_output.defvjp(cell_output_forward, cell_output_backward)


def normalize(x: jax.Array) -> jax.Array:
  """Zero mean and unit variance over the last axis."""
  centred = x - x.mean(-1, keepdims=True)
  return centred * jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + 1e-5)


def scan_layers(
  step: Callable,
  layers: dict[str, Layer],
  others: Any,
  carry: Any,
  inputs: Any,
  unroll: int = 1,
  weight_gradients: str = "per_step",
  remat: str = "none",
) -> tuple[Any, Any]:
  """Takes `step` over the leading (time) axis of `inputs`; the last three change speed and memory and no value.

  Args:
    layers: kernel and bias by name, the same at every step.
    others: pytree, the same at every step.
    carry: pytree of [B, ...], the state before the first step.
    inputs: pytree with leading axis T.
    unroll: steps per iteration of the compiled loop.
    weight_gradients: when the gradients of `layers` are computed: "per_step" of the backward pass, or "deferred" it,
      see `scan_gradients_after`.
    remat: what is computed again for the gradient rather than kept, see `scan_remat`: "none", "step" or "sqrt"; of no
      effect with "deferred", which keeps all.

  Returns:
    The last carry, and the outputs stacked along a leading axis T.
  """
  if weight_gradients == "deferred":
    return scan_deferred_weight_grads(step, unroll, layers, others, carry, inputs)
  return scan_remat(partial(plain_step, step, layers, others), carry, inputs, unroll, remat)


def plain_step(step: Callable, layers: dict[str, Layer], others: Any, carry: Any, inputs: Any) -> tuple[Any, Any]:
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
def scan_deferred_weight_grads(
  step: Callable, unroll: int, layers: dict[str, Layer], others: Any, carry: Any, inputs: Any
) -> tuple[Any, Any]:
  """A scan whose backward pass computes the gradients of the layers once, after its loop.

  The gradient of W in y_t = x_t W + b is sum_t x_t^T dy_t: one large product of all steps in place of T small ones,
  each added to an array as large as W. For a device where launches cost more than arithmetic.
  """
  return jax.lax.scan(partial(plain_step, step, layers, others), carry, inputs, unroll=unroll)


def scan_deferred_forward(step, unroll, layers, others, carry, inputs):
  """Keeps every x_t, and perturbs every y_t by a zero whose gradient is dy_t."""

  def scan_perturbed(others, carry, inputs, zeros):
    def body(carry, inputs):
      inputs, zeros = inputs
      layer_inputs = {}

      def perturbed(name, x):
        layer_inputs[name] = x
        return tap(linear(layers[name], x), zeros[name])

      carry, outputs = step(perturbed, others, carry, inputs)
      return carry, (outputs, layer_inputs)

    last, (outputs, layer_inputs) = jax.lax.scan(body, carry, (inputs, zeros), unroll=unroll)
    return (last, outputs), layer_inputs

  steps, batch = len(jax.tree.leaves(inputs)[0]), len(jax.tree.leaves(carry)[0])
  zeros = {name: jnp.zeros((steps, batch, layer["bias"].size)) for name, layer in layers.items()}
  result, pull_back, layer_inputs = jax.vjp(scan_perturbed, others, carry, inputs, zeros, has_aux=True)
  return result, (pull_back, layer_inputs)


def scan_deferred_backward(step, unroll, residuals, cotangents):
  del step, unroll
  pull_back, layer_inputs = residuals
  *gradients, to_outputs = pull_back(cotangents)
  to_outputs = jax.lax.optimization_barrier(to_outputs)  # or XLA splits the sum below again, by unrolled steps
  to_layers = {
    name: {"kernel": jnp.einsum("tbi,tbo->io", layer_inputs[name], to_output), "bias": to_output.sum((0, 1))}
    for name, to_output in to_outputs.items()
  }
  return to_layers, *gradients


scan_deferred_weight_grads.defvjp(scan_deferred_forward, scan_deferred_backward)


@jax.custom_vjp
def tap(value: jax.Array, zero: jax.Array) -> jax.Array:
  """value + zero, without the addition; `zero` receives the gradient of the value."""
  del zero
  return value


tap.defvjp(lambda value, zero: (value, None), lambda _, gradient: (gradient, gradient))
