"""The cell against a loop over its units."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest

from latentjax.models.recurrent import LSTMState, cell_output, init_lstm, lstm, update_cell

BATCH, INPUTS, UNITS = 2, 3, 5


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


def test_gradients_written_out_are_those_of_the_equations():
  def plain_update(i, f, g, cell):
    return jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)

  def plain_output(o, cell):
    return jax.nn.sigmoid(o) * jnp.tanh(cell)

  parts = jnp.array(np.random.default_rng(0).normal(0, 2, (4, BATCH, UNITS)), jnp.float32)
  for own, plain, count in ((update_cell, plain_update, 4), (cell_output, plain_output, 2)):
    actual, expected = (
      jax.value_and_grad(lambda parts, f=f, count=count: jnp.sin(f(*parts[:count])).sum())(parts) for f in (own, plain)
    )
    chex.assert_trees_all_close(actual, expected, rtol=1e-5, atol=1e-6)


def test_the_forget_gate_starts_open():
  weights = init_lstm(jax.random.key(0), zeros, INPUTS, UNITS, layer_norm=False)
  memory = jnp.ones((1, UNITS))
  after = lstm(weights, LSTMState(jnp.zeros((1, UNITS)), memory), [jnp.zeros((1, INPUTS))])
  np.testing.assert_allclose(after.cell, np.full((1, UNITS), 1 / (1 + np.exp(-1.0))), rtol=1e-6)


def test_layer_norm_ignores_the_scale_of_its_input():
  """What it is for: an input ten times larger leaves the gates as they were."""
  generator = np.random.default_rng(0)
  weights = init_lstm(jax.random.key(0), jax.nn.initializers.normal(1.0), INPUTS, UNITS, layer_norm=True)
  x, memory = (jnp.array(generator.normal(size=(BATCH, width))) for width in (INPUTS, UNITS))
  state = LSTMState(jnp.zeros((BATCH, UNITS)), memory)
  np.testing.assert_allclose(lstm(weights, state, [x]).hidden, lstm(weights, state, [10 * x]).hidden, atol=1e-3)
