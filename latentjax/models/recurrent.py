"""LSTM cell and scans over time, as pure functions. Shapes: B batch, U hidden units, I inputs, O outputs, T steps."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from latentjax.models.layers import Layer, linear

LSTMWeights = dict[str, jax.Array]
Layers = dict[str, Layer]


@struct.dataclass
class LSTMState:
  """State of an LSTM: hidden [B, U], its output, and cell [B, U], its memory."""

  hidden: jax.Array
  cell: jax.Array


def init_lstm(key: jax.Array, kernel_init: Callable, inputs: int, units: int, layer_norm: bool) -> LSTMWeights:
  """Creates the weights of a cell, with one kernel [I + U, 4 U] for all gates; the forget gate starts open (bias 1)."""
  bias = jnp.zeros((4, units)).at[1].set(1.0).reshape(-1)
  weights = {"kernel": kernel_init(key, (inputs + units, 4 * units)), "bias": bias}
  if layer_norm:
    weights |= {"gate_scale": jnp.ones((4, units)), "cell_scale": jnp.ones(units), "cell_bias": jnp.zeros(units)}
  return weights


def lstm(weights: LSTMWeights, state: LSTMState, inputs: Sequence[jax.Array]) -> LSTMState:
  """Runs one step (Hochreiter & Schmidhuber 1997, with forget gate and without peepholes).

      i, f, g, o = [inputs, h] W + b,  c' = sigmoid(f) c + sigmoid(i) tanh(g),  h' = sigmoid(o) tanh(c')

  `inputs` are concatenated to [B, I].
  """
  product = jnp.concatenate([*inputs, state.hidden], axis=-1) @ weights["kernel"]  # [B, 4 U]
  return lstm_cell(weights, product + product_bias(weights)[None], state.cell)


def product_bias(weights: LSTMWeights) -> jax.Array:
  """Returns the bias added to the product, [4 U]: 0 with layer norm, whose bias is added after normalization."""
  return jnp.zeros_like(weights["bias"]) if "gate_scale" in weights else weights["bias"]


def lstm_cell(weights: LSTMWeights, preactivation: jax.Array, cell: jax.Array) -> LSTMState:
  """Finishes a step from pre-activations [B, 4 U], [inputs, h] W + `product_bias`, and the old cell [B, U].

  With layer norm (Ba et al. 2016, arXiv:1607.06450) the pre-activation of each gate, inputs and recurrence together,
  and the cell that the output gate sees are normalized over units. The kernel is not used.
  """
  layer_norm = "gate_scale" in weights
  if layer_norm:
    gates = preactivation.reshape(*preactivation.shape[:-1], 4, -1)  # [B, 4, U]
    scaled = _normalize(gates) * weights["gate_scale"][None]
    preactivation = scaled.reshape(preactivation.shape) + weights["bias"][None]
  i, f, g, o = jnp.split(preactivation, 4, axis=-1)
  cell = update_cell(i, f, g, cell)
  normalized = _normalize(cell) * weights["cell_scale"][None] + weights["cell_bias"][None] if layer_norm else cell
  return LSTMState(hidden=cell_output(o, normalized), cell=cell)


def _normalize(x: jax.Array) -> jax.Array:
  """Normalizes to zero mean and unit variance over the last axis."""
  centered = x - x.mean(-1, keepdims=True)
  return centered * jax.lax.rsqrt(jnp.square(centered).mean(-1, keepdims=True) + 1e-5)


# The gradients of `update_cell` and `cell_output` are written out because they store fewer arrays per step than
# automatic differentiation: the derivative of an activation follows from its value.


@jax.custom_vjp
def update_cell(i: jax.Array, f: jax.Array, g: jax.Array, cell: jax.Array) -> jax.Array:
  """Returns sigmoid(f) c + sigmoid(i) tanh(g)."""
  return _update_cell_forward(i, f, g, cell)[0]


def _update_cell_forward(i, f, g, cell):
  i, f, g = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g)
  return f * cell + i * g, (i, f, g, cell)


def _update_cell_backward(residuals, gradient):
  i, f, g, cell = residuals
  return gradient * g * i * (1 - i), gradient * cell * f * (1 - f), gradient * i * (1 - g * g), gradient * f


update_cell.defvjp(_update_cell_forward, _update_cell_backward)


@jax.custom_vjp
def cell_output(o: jax.Array, cell: jax.Array) -> jax.Array:
  """Returns sigmoid(o) tanh(c)."""
  return _cell_output_forward(o, cell)[0]


def _cell_output_forward(o, cell):
  o, tanh_cell = jax.nn.sigmoid(o), jnp.tanh(cell)
  return o * tanh_cell, (o, tanh_cell)


def _cell_output_backward(residuals, gradient):
  o, tanh_cell = residuals
  return gradient * tanh_cell * o * (1 - o), gradient * o * (1 - tanh_cell * tanh_cell)


cell_output.defvjp(_cell_output_forward, _cell_output_backward)


def scan_layers(
  step: Callable, layers: Layers, others: Any, carry: Any, inputs: Any, unroll: int, weight_gradients: str, remat: str
) -> tuple[Any, Any]:
  """Scans `step` over the leading axis T of `inputs`; returns the last carry, and the outputs with a leading axis T.

  `unroll`, `weight_gradients` and `remat` change speed and memory but no value.

  Args:
    step: (linear, others, carry, inputs) -> (carry, outputs), where `linear(name, x)` applies a layer.
    layers: Linear layers by name, shared by all steps.
    others: Pytree shared by all steps.
    carry: Pytree of [B, ...], the state before the first step.
    inputs: Pytree with leading axis T.
    unroll: Steps per iteration of the compiled loop.
    weight_gradients: "per_step" accumulates the gradients of `layers` in every step of the backward pass; "deferred"
      computes them once after it, see `_scan_deferred_weight_grads`.
    remat: "none", "step" or "sqrt", see `_scan_remat`; ignored if "deferred", which stores everything.
  """
  if weight_gradients == "deferred":
    return _scan_deferred_weight_grads(step, unroll, layers, others, carry, inputs)
  return _scan_remat(partial(plain_step, step, layers, others), carry, inputs, unroll, remat)


def plain_step(step: Callable, layers: Layers, others: Any, carry: Any, inputs: Any) -> tuple[Any, Any]:
  """Calls a step of `scan_layers` once, outside of a scan."""
  return step(lambda name, x: linear(layers[name], x), others, carry, inputs)


def _scan_remat(body: Callable, carry: Any, inputs: Any, unroll: int, remat: str) -> tuple[Any, Any]:
  """`jax.lax.scan` that stores fewer intermediates for the gradient and recomputes the others.

  "none" stores the intermediates of every step. "step" stores the carry of every step and computes each step twice.
  "sqrt" stores the carry of about sqrt(T) blocks of steps, and the intermediates of one block at a time: memory grows
  with sqrt(T) for one more forward pass (Chen et al. 2016, arXiv:1604.06174).
  """
  if remat == "none":
    return jax.lax.scan(body, carry, inputs, unroll=unroll)
  # Forward and backward pass are separate loops, so XLA cannot merge a step with its recomputation.
  checkpoint = partial(jax.checkpoint, prevent_cse=False)
  if remat == "step":
    return jax.lax.scan(checkpoint(body), carry, inputs, unroll=unroll)

  num_steps = len(jax.tree.leaves(inputs)[0])
  block_size = max(math.isqrt(num_steps), 1)
  num_blocks = num_steps // block_size
  in_blocks = num_blocks * block_size  # steps in full blocks

  @checkpoint
  def scan_block(carry, inputs):
    return jax.lax.scan(body, carry, inputs, unroll=min(unroll, block_size))

  blocks = jax.tree.map(lambda x: x[:in_blocks].reshape(num_blocks, block_size, *x.shape[1:]), inputs)
  carry, outputs = jax.lax.scan(scan_block, carry, blocks)
  outputs = jax.tree.map(lambda x: x.reshape(in_blocks, *x.shape[2:]), outputs)
  if in_blocks < num_steps:
    carry, last = scan_block(carry, jax.tree.map(lambda x: x[in_blocks:], inputs))
    outputs = jax.tree.map(lambda *arrays: jnp.concatenate(arrays), outputs, last)
  return carry, outputs


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _scan_deferred_weight_grads(step: Callable, unroll: int, layers: Layers, others: Any, carry: Any, inputs: Any):
  """Scan whose backward pass computes the gradients of the layers once, after its loop.

  The gradient of W in y_t = x_t W + b is sum_t x_t^T dy_t: one large product over all steps instead of T small ones,
  each added to an array as large as W. Faster on devices where kernel launches cost more than arithmetic.
  """
  return jax.lax.scan(partial(plain_step, step, layers, others), carry, inputs, unroll=unroll)


def _scan_deferred_forward(step, unroll, layers, others, carry, inputs):
  """Stores every x_t, and taps every y_t with a zero whose gradient is dy_t."""

  def scan_tapped(others, carry, inputs, zeros):
    def body(carry, inputs):
      inputs, zeros = inputs
      layer_inputs = {}

      def tapped_linear(name, x):
        layer_inputs[name] = x
        return _tap(linear(layers[name], x), zeros[name])

      carry, outputs = step(tapped_linear, others, carry, inputs)
      return carry, (outputs, layer_inputs)

    last, (outputs, layer_inputs) = jax.lax.scan(body, carry, (inputs, zeros), unroll=unroll)
    return (last, outputs), layer_inputs

  num_steps, batch = len(jax.tree.leaves(inputs)[0]), len(jax.tree.leaves(carry)[0])
  zeros = {name: jnp.zeros((num_steps, batch, layer["bias"].size)) for name, layer in layers.items()}
  result, pull_back, layer_inputs = jax.vjp(scan_tapped, others, carry, inputs, zeros, has_aux=True)
  return result, (pull_back, layer_inputs)


def _scan_deferred_backward(step, unroll, residuals, cotangents):
  del step, unroll
  pull_back, layer_inputs = residuals
  *gradients, output_grads = pull_back(cotangents)
  # Without the barrier XLA splits the sum over steps below into one sum per unrolled step.
  output_grads = jax.lax.optimization_barrier(output_grads)
  layer_grads = {
    name: {"kernel": jnp.einsum("tbi,tbo->io", layer_inputs[name], grad), "bias": grad.sum((0, 1))}
    for name, grad in output_grads.items()
  }
  return layer_grads, *gradients


_scan_deferred_weight_grads.defvjp(_scan_deferred_forward, _scan_deferred_backward)


@jax.custom_vjp
def _tap(value: jax.Array, zero: jax.Array) -> jax.Array:
  """Returns `value`; `zero` receives the gradient of `value`, as if it had been added."""
  del zero
  return value


_tap.defvjp(lambda value, zero: (value, None), lambda _, gradient: (gradient, gradient))
