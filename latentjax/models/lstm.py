"""A long short-term memory cell as a pure function of its weights.

Shapes: B batch, U hidden units, I all inputs side by side.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import struct

Weights = dict[str, jax.Array]


@struct.dataclass
class LSTMState:
  """hidden: [B, U] the cell's output; cell: [B, U] its memory."""

  hidden: jax.Array
  cell: jax.Array


def init_lstm(key: jax.Array, kernel_init, inputs: int, units: int, layer_norm: bool) -> Weights:
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


def lstm(weights: Weights, state: LSTMState, inputs: Sequence[jax.Array]) -> LSTMState:
  """One step (Hochreiter & Schmidhuber 1997, with forget gate and without peepholes).

      i, f, g, o = [inputs, h] W + b,  c' = sigmoid(f) c + sigmoid(i) tanh(g),  h' = sigmoid(o) tanh(c')

  Args:
    inputs: arrays [B, ...], put side by side.
  """
  product = jnp.concatenate([*inputs, state.hidden], axis=-1) @ weights["kernel"]  # [B, 4 U]
  return lstm_cell(weights, product + product_bias(weights)[None], state.cell)


def product_bias(weights: Weights) -> jax.Array:
  """[4 U] what is added to the product: the bias, but 0 where layer norm comes in between."""
  return jnp.zeros_like(weights["bias"]) if "gate_scale" in weights else weights["bias"]


def lstm_cell(weights: Weights, preactivation: jax.Array, cell: jax.Array) -> LSTMState:
  """The step after its product.

  With layer-norm weights each gate's pre-activation and the cell seen by the output are normalised over
  units (Ba et al. 2016, arXiv:1607.06450), the input and recurrent contributions together.

  Args:
    preactivation: [B, 4 U] [inputs, h] W + `product_bias`. cell: [B, U] before the step.
  """
  normalised = "gate_scale" in weights
  if normalised:
    gates = preactivation.reshape(*preactivation.shape[:-1], 4, -1)  # [B, 4, U]
    scaled = standardise(gates) * weights["gate_scale"][None]
    preactivation = scaled.reshape(preactivation.shape) + weights["bias"][None]
  i, f, g, o = jnp.split(preactivation, 4, axis=-1)
  cell = update_cell(i, f, g, cell)
  seen = standardise(cell) * weights["cell_scale"][None] + weights["cell_bias"][None] if normalised else cell
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


def standardise(x: jax.Array) -> jax.Array:
  """Zero mean and unit variance over the last axis."""
  centred = x - x.mean(-1, keepdims=True)
  return centred * jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + 1e-5)
