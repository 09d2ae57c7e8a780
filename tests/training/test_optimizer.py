"""Schedules and steps against what they are defined by."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from latentjax.training.optimizer import create_optimizer, global_norm, global_norm_joined, learning_rate_schedule


def train_with(**changes):
  """The section `train` of a VAE's config with these keys."""
  train = importlib.import_module("configs.vae").get_config().train
  train.update(changes)
  return train


@pytest.mark.parametrize(
  ("schedule", "expected"),
  [("constant", [1, 1, 1, 1, 1]), ("linear", [1, 1, 0.5, 0, 0]), ("cosine", [1, 1, 0.5, 0, 0])],
)
def test_learning_rate_is_constant_and_then_falls_to_zero(schedule, expected):
  train = train_with(schedule=schedule, decay_start=2, decay_end=6)
  rate = learning_rate_schedule(train, steps_per_epoch=10)
  actual = [rate(step) / train.learning_rate for step in (0, 20, 40, 60, 90)]
  np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_learning_rate_falls_until_the_last_epoch_by_default():
  train = train_with(schedule="linear", epochs=8, decay_start=0, decay_end=0)
  rate = learning_rate_schedule(train, steps_per_epoch=10)
  np.testing.assert_allclose([rate(step) / train.learning_rate for step in (0, 20, 80)], [1, 0.75, 0], atol=1e-6)


def test_learning_rate_warms_up_step_by_step():
  train = train_with(schedule="constant", warmup_epochs=0.5)
  rate = learning_rate_schedule(train, steps_per_epoch=10)
  actual = [rate(step) / train.learning_rate for step in (0, 1, 4, 5, 90)]
  np.testing.assert_allclose(actual, [0.2, 0.4, 1, 1, 1], rtol=1e-6)


@pytest.mark.parametrize("norm", [global_norm, global_norm_joined])
def test_the_norm_is_that_of_all_numbers_of_a_seed(norm):
  """Of every kind that a backend may take, also of several seeds; one number that is none makes it none."""
  arrays = [np.random.default_rng(0).normal(0, 3, (2, *shape)).astype(np.float32) for shape in ((3, 4), (5,), ())]
  gradient = {str(index): jnp.array(array) for index, array in enumerate(arrays)}
  expected = np.linalg.norm(np.concatenate([array.reshape(2, -1) for array in arrays], axis=1), axis=1)
  np.testing.assert_allclose(jax.vmap(norm)(gradient), expected, rtol=1e-6)
  np.testing.assert_allclose(jax.jit(norm)(gradient), np.linalg.norm(expected), rtol=1e-6)
  for bad in (np.nan, np.inf):
    assert not np.isfinite(norm(gradient | {"1": gradient["1"].at[0, 0].set(bad)}))


@pytest.mark.parametrize(("platform", "joined"), [("cpu", 0), ("cuda", 1), ("tpu", 1)])
def test_where_launches_cost_most_the_gradient_is_joined_for_its_norm(platform, joined):
  traced = jax.jit(global_norm).trace({"a": jnp.zeros((3, 4)), "b": jnp.zeros(5)})
  assert traced.lower(lowering_platforms=(platform,)).as_text().count("stablehlo.concatenate") == joined


@pytest.mark.parametrize("clip_norm", [0.0, 1.0])
def test_optimizer_is_adam_of_the_clipped_gradient(clip_norm):
  train = train_with(clip_norm=clip_norm, adam_b1=0.5)
  optimizer = create_optimizer(train, lambda step: 0.01 * (1 + step), {})
  gradients = np.random.default_rng(0).normal(0, [[0.1], [3], [1]], (3, 4))  # norms below and above 1
  state, first, second = optimizer.init(jnp.zeros(4)), np.zeros(4), np.zeros(4)
  for index, gradient in enumerate(gradients):
    update, state = optimizer.update(jnp.array(gradient), state)
    if clip_norm > 0:
      gradient = gradient / max(1, np.linalg.norm(gradient) / clip_norm)
    first = 0.5 * first + 0.5 * gradient
    second = 0.999 * second + 0.001 * gradient**2
    corrected = first / (1 - 0.5 ** (index + 1)), second / (1 - 0.999 ** (index + 1))
    np.testing.assert_allclose(update, -0.01 * (1 + index) * corrected[0] / (np.sqrt(corrected[1]) + 1e-8), rtol=1e-4)


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_weight_decay_takes_the_learning_rates_share_off_kernels_alone(optimizer):
  """Beside whatever step the gradient asks for, and of the weights as they were before it."""
  rng = np.random.default_rng(0)
  weights = {
    "cell": {"kernel": rng.normal(size=(20, 24)), "bias": rng.normal(size=24), "initial": rng.normal(size=(20, 24))},
    "window": {"kernel": rng.normal(size=(20, 5))},  # which Muon leaves to Adam
  }
  rate = optax.linear_schedule(0.1, 0.0, 10)
  plain = create_optimizer(train_with(optimizer=optimizer), rate, {})
  decayed = create_optimizer(train_with(optimizer=optimizer, weight_decay=0.3), rate, {})
  states = plain.init(weights), decayed.init(weights)
  for step in range(3):
    gradient = jax.tree.map(lambda x: rng.normal(size=x.shape), weights)
    without, with_decay = (
      optimizer.update(gradient, state, weights) for optimizer, state in zip((plain, decayed), states, strict=True)
    )
    states = without[1], with_decay[1]
    taken = jax.tree.map(lambda a, b: a - b, without[0], with_decay[0])
    for layer, name in (("cell", "kernel"), ("window", "kernel")):
      expected = 0.1 * (1 - step / 10) * 0.3 * weights[layer][name]
      np.testing.assert_allclose(taken[layer][name], expected, rtol=1e-3, atol=1e-6)
    assert not np.any(taken["cell"]["bias"])
    assert not np.any(taken["cell"]["initial"])
    weights = optax.apply_updates(weights, with_decay[0])


def test_adam_with_decay_is_adamw():
  """Optax's, where all weights are kernels."""
  rng = np.random.default_rng(0)
  weights = {"layer": {"kernel": rng.normal(size=(6, 4)).astype(np.float32)}}
  ours = create_optimizer(train_with(weight_decay=0.1, clip_norm=0.0), lambda step: 0.02, {})
  theirs = optax.adamw(0.02, weight_decay=0.1)
  found, expected = weights, weights
  states = ours.init(found), theirs.init(expected)
  for _ in range(5):
    gradient = {"layer": {"kernel": rng.normal(size=(6, 4)).astype(np.float32)}}
    update, first = ours.update(gradient, states[0], found)
    other, second = theirs.update(gradient, states[1], expected)
    states = first, second
    found, expected = optax.apply_updates(found, update), optax.apply_updates(expected, other)
  np.testing.assert_allclose(found["layer"]["kernel"], expected["layer"]["kernel"], rtol=1e-5)
