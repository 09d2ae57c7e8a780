"""The LSTM cell against a loop over its units, and scans of linear layers against a Python loop."""

from functools import cache

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest

from latentjax.models.recurrent import LSTMState, cell_output, init_lstm, lstm, scan_layers, update_cell

BATCH, INPUTS, UNITS, STEPS = 2, 3, 5, 5


def zeros(key, shape):
  del key
  return jnp.zeros(shape)


@pytest.mark.parametrize("layer_norm", [False, True])
def test_steps_equal_a_loop(layer_norm):
  generator = np.random.default_rng(0)
  weights = init_lstm(jax.random.key(0), zeros, INPUTS, UNITS, layer_norm)
  weights = {name: jnp.array(generator.normal(0, 0.7, value.shape)) for name, value in weights.items()}
  first, second = (generator.normal(size=(BATCH, width)) for width in (INPUTS - 1, 1))
  hidden, cell = generator.normal(size=(2, BATCH, UNITS))

  state = LSTMState(jnp.array(hidden), jnp.array(cell))
  for _ in range(2):
    state = lstm(weights, state, [jnp.array(first), jnp.array(second)])

  for b in range(BATCH):
    h, c = hidden[b], cell[b]
    for _ in range(2):
      h, c = oracle.lstm(oracle.float64(weights), h, c, np.concatenate([first[b], second[b]]))
    np.testing.assert_allclose(state.hidden[b], h, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(state.cell[b], c, rtol=1e-4, atol=1e-6)


def test_hand_written_gradients_equal_automatic_ones():
  def plain_update(i, f, g, cell):
    return jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)

  def plain_output(o, cell):
    return jax.nn.sigmoid(o) * jnp.tanh(cell)

  args = jnp.array(np.random.default_rng(0).normal(0, 2, (4, BATCH, UNITS)), jnp.float32)
  for own, plain, count in ((update_cell, plain_update, 4), (cell_output, plain_output, 2)):
    actual, expected = (
      jax.value_and_grad(lambda args, f=f, count=count: jnp.sin(f(*args[:count])).sum())(args) for f in (own, plain)
    )
    chex.assert_trees_all_close(actual, expected, rtol=1e-5, atol=1e-6)


def test_forget_gate_starts_open():
  weights = init_lstm(jax.random.key(0), zeros, INPUTS, UNITS, layer_norm=False)
  memory = jnp.ones((1, UNITS))
  after = lstm(weights, LSTMState(jnp.zeros((1, UNITS)), memory), [jnp.zeros((1, INPUTS))])
  np.testing.assert_allclose(after.cell, np.full((1, UNITS), 1 / (1 + np.exp(-1.0))), rtol=1e-6)


def test_layer_norm_ignores_the_scale_of_its_input():
  generator = np.random.default_rng(0)
  weights = init_lstm(jax.random.key(0), jax.nn.initializers.normal(1.0), INPUTS, UNITS, layer_norm=True)
  x, memory = (jnp.array(generator.normal(size=(BATCH, width))) for width in (INPUTS, UNITS))
  state = LSTMState(jnp.zeros((BATCH, UNITS)), memory)
  np.testing.assert_allclose(lstm(weights, state, [x]).hidden, lstm(weights, state, [10 * x]).hidden, atol=1e-3)


def scan_arguments():
  """layers, others, carry, inputs."""
  generator = np.random.default_rng(0)

  def normal(*shape):
    return jnp.array(generator.normal(0, 0.5, shape), jnp.float32)

  layers = {
    "state": {"kernel": normal(UNITS, UNITS), "bias": normal(UNITS)},
    "input": {"kernel": normal(INPUTS, UNITS), "bias": normal(UNITS)},
  }
  return layers, {"gain": normal(UNITS)}, normal(BATCH, UNITS), normal(STEPS, BATCH, INPUTS)


def step(linear, others, carry, inputs):
  carry = jnp.tanh(linear("state", carry) + linear("input", inputs)) * others["gain"][None]
  return carry, carry.sum(-1)


def loop(layers, others, carry, inputs):
  outputs = []
  for x in inputs:
    total = carry @ layers["state"]["kernel"] + layers["state"]["bias"][None]
    carry = jnp.tanh(total + x @ layers["input"]["kernel"] + layers["input"]["bias"][None]) * others["gain"][None]
    outputs.append(carry.sum(-1))
  return carry, jnp.stack(outputs)


def value_and_gradients(run):
  def loss(*args):
    carry, outputs = run(*args)
    return jnp.square(carry).sum() + jnp.sin(outputs).sum(), (carry, outputs)

  return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2, 3), has_aux=True))(*scan_arguments())


@cache
def expected_of_loop():
  return value_and_gradients(loop)


@pytest.mark.parametrize("unroll", [1, 2, STEPS])
@pytest.mark.parametrize(
  ("weight_gradients", "remat"),
  [("per_step", "none"), ("deferred", "none"), ("per_step", "step"), ("per_step", "sqrt")],
)
def test_scans_equal_a_loop_in_values_and_all_gradients(unroll, weight_gradients, remat):
  actual = value_and_gradients(lambda *args: scan_layers(step, *args, unroll, weight_gradients, remat))
  chex.assert_trees_all_close(actual, expected_of_loop(), rtol=1e-5, atol=1e-6)
