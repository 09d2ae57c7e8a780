"""Schedules and updates against their definitions, Muon against Optax's and singular values in float64."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from latentjax.models.draw.model import DRAW
from latentjax.training.optimizer import (
  NEWTON_SCHULZ_COEFFICIENTS,
  NEWTON_SCHULZ_STEPS,
  STEP_SIZE,
  create_optimizer,
  global_norm,
  global_norm_joined,
  learning_rate_schedule,
  orthogonalize_via_newton_schulz,
  scale_by_muon,
)
from latentjax.training.step import create_recipe


def train_with(**changes):
  """Returns `config.train` of a VAE with these changes."""
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
def test_global_norm_is_that_of_all_entries_of_a_seed(norm):
  """For every backend, and under vmap over seeds; a single NaN or infinity makes it non-finite."""
  arrays = [np.random.default_rng(0).normal(0, 3, (2, *shape)).astype(np.float32) for shape in ((3, 4), (5,), ())]
  gradient = {str(index): jnp.array(array) for index, array in enumerate(arrays)}
  expected = np.linalg.norm(np.concatenate([array.reshape(2, -1) for array in arrays], axis=1), axis=1)
  np.testing.assert_allclose(jax.vmap(norm)(gradient), expected, rtol=1e-6)
  np.testing.assert_allclose(jax.jit(norm)(gradient), np.linalg.norm(expected), rtol=1e-6)
  for bad in (np.nan, np.inf):
    assert not np.isfinite(norm(gradient | {"1": gradient["1"].at[0, 0].set(bad)}))


@pytest.mark.parametrize(("platform", "joined"), [("cpu", 0), ("cuda", 1), ("tpu", 1)])
def test_gradient_is_joined_for_its_norm_on_accelerators(platform, joined):
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
def test_weight_decay_is_decoupled_and_for_kernels_only(optimizer):
  """Independent of the gradient's update, and computed from the weights before it."""
  rng = np.random.default_rng(0)
  weights = {
    "cell": {"kernel": rng.normal(size=(20, 24)), "bias": rng.normal(size=24), "initial": rng.normal(size=(20, 24))},
    "window": {"kernel": rng.normal(size=(20, 5))},  # trained by Adam
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
  """Optax's AdamW, if all weights are kernels."""
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


def normal(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def updates(optimizer, weights, gradients):
  state, outputs = optimizer.init(weights), []
  for gradient in gradients:
    update, state = optimizer.update(gradient, state, weights)
    outputs.append(update)
  return outputs


@pytest.mark.parametrize("shape", [(40, 24), (24, 40), (32, 32)])
def test_orthogonal_steps_have_the_singular_vectors_of_the_momentum(shape):
  x = normal(0, *shape)
  u, s, vt = np.linalg.svd(x.astype(np.float64), full_matrices=False)
  s = s / np.linalg.norm(s)
  a, b, c = NEWTON_SCHULZ_COEFFICIENTS
  for _ in range(NEWTON_SCHULZ_STEPS):
    s = a * s + b * s**3 + c * s**5
  assert s.min() > 0.6
  assert s.max() < 1.3
  np.testing.assert_allclose(orthogonalize_via_newton_schulz(jnp.array(x)), u * s @ vt, atol=1e-4)


def test_a_gradient_without_a_direction_gives_a_finite_step():
  """Rank one, nearly rank one, and zero."""
  one = np.outer(normal(0, 256), normal(1, 200))
  for x in (one, one + 1e-6 * normal(2, 256, 200), 1e-30 * one, 0 * one):
    step = np.asarray(orthogonalize_via_newton_schulz(jnp.array(x)))
    assert np.isfinite(step).all()
    assert np.linalg.norm(step, 2) < 1.5


def test_a_kernel_is_updated_as_by_optax():
  """After Optax's bias correction, which is not used here, has faded: 0.95^300 is 2e-7."""
  weights = {"layer": {"kernel": normal(0, 40, 24)}}
  gradients = {"layer": {"kernel": normal(1, 302, 40, 24)}}

  def last(optimizer):
    def step(state, gradient):
      update, state = optimizer.update(gradient, state, weights)
      return state, update

    return jax.lax.scan(step, optimizer.init(weights), gradients)[1]["layer"]["kernel"][-2:]

  by_optax = optax.contrib.muon(-1.0, consistent_rms=STEP_SIZE)
  np.testing.assert_allclose(last(scale_by_muon(0.9, {})), last(by_optax), atol=1e-4)


def test_matrices_of_a_stacked_kernel_are_updated_separately():
  kernel, gradient = normal(0, 20, 96), normal(1, 20, 96)
  optimizer = scale_by_muon(0.9, {"encoder": 4})
  (whole,) = updates(optimizer, {"encoder": {"kernel": kernel}}, [{"encoder": {"kernel": gradient}}])
  for index in range(4):
    columns = np.s_[:, 24 * index : 24 * (index + 1)]
    (alone,) = updates(optimizer, {"other": {"kernel": kernel[columns]}}, [{"other": {"kernel": gradient[columns]}}])
    np.testing.assert_allclose(whole["encoder"]["kernel"][columns], alone["other"]["kernel"], atol=1e-6)


@pytest.mark.parametrize("outputs", [16, 5])
def test_a_kernel_of_a_convolution_is_updated_as_one_matrix(outputs):
  """[3, 3, I, O] as [9 I, O]; one with few outputs by Adam, whose first step has entries of 1."""
  kernel, gradient = normal(0, 3, 3, 8, outputs), normal(1, 3, 3, 8, outputs)
  found, expected = (
    updates(scale_by_muon(0.9, {}), {"conv": {"kernel": reshape(kernel)}}, [{"conv": {"kernel": reshape(gradient)}}])
    for reshape in (lambda x: x, lambda x: x.reshape(72, outputs))
  )
  found, expected = found[0]["conv"]["kernel"], expected[0]["conv"]["kernel"]
  np.testing.assert_allclose(found, expected.reshape(kernel.shape), rtol=1e-4, atol=1e-6)
  assert np.allclose(np.abs(found), 1, atol=1e-3) == (outputs == 5)


def test_other_weights_are_updated_by_adam():
  """Biases, weights that are not kernels, and kernels with few columns."""
  weights = {
    "weights": {"write_window": {"kernel": normal(0, 32, 5), "bias": normal(1, 5)}, "canvas": normal(2, 28, 28, 1)},
    "log_scale": normal(3, 1),
  }
  gradients = [jax.tree.map(lambda x, seed=seed: normal(seed, *x.shape), weights) for seed in range(4, 7)]
  ours, adams = (updates(rule, weights, gradients) for rule in (scale_by_muon(0.8, {}), optax.scale_by_adam(0.8)))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), ours, adams)


def scaled(factor, tree):
  return jax.tree.map(lambda x: factor * x, tree)


def test_a_config_clips_and_then_updates_gate_by_gate():
  """The second gradient has a hundred times the norm of the first and is clipped to twice."""
  config = importlib.import_module("configs.draw").get_config("deep")
  config.train.clip_norm = 2.0
  gradients = [{name: {"kernel": normal(seed, 20, 96)} for name in ("encoder", "decoder")} for seed in (0, 1)]
  first, second = (scaled(1 / optax.tree.norm(gradient), gradient) for gradient in gradients)
  recipe = create_recipe(config, DRAW, 1280)
  directions = updates(scale_by_muon(0.9, {"encoder": 4, "decoder": 4}), first, [first, scaled(2, second)])
  expected = [scaled(-recipe.learning_rate(step), direction) for step, direction in enumerate(directions)]
  found = updates(recipe.optimizer, first, [first, scaled(100, second)])
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-7), found, expected)
