"""A scan of linear layers against a Python loop, however it is computed: values and all gradients."""

from functools import cache

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from latentjax.models.recurrent import scan_layers

STEPS, BATCH, UNITS, INPUTS = 5, 3, 4, 2


def arguments():
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
  def loss(*given):
    carry, outputs = run(*given)
    return jnp.square(carry).sum() + jnp.sin(outputs).sum(), (carry, outputs)

  return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2, 3), has_aux=True))(*arguments())


@cache
def expected():
  return value_and_gradients(loop)


@pytest.mark.parametrize("unroll", [1, 2, STEPS])
@pytest.mark.parametrize(
  ("weight_gradients", "remat"),
  [("per_step", "none"), ("deferred", "none"), ("per_step", "step"), ("per_step", "sqrt")],
)
def test_equals_a_loop(unroll, weight_gradients, remat):
  actual = value_and_gradients(lambda *given: scan_layers(step, *given, unroll, weight_gradients, remat))
  chex.assert_trees_all_close(actual, expected(), rtol=1e-5, atol=1e-6)
