"""Muon against Optax's, and its orthogonal steps against singular values in float64."""

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
  orthogonalize_via_newton_schulz,
  scale_by_muon,
)
from latentjax.training.step import create_recipe


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
  """Of rank one, nearly of rank one, and 0."""
  one = np.outer(normal(0, 256), normal(1, 200))
  for x in (one, one + 1e-6 * normal(2, 256, 200), 1e-30 * one, 0 * one):
    step = np.asarray(orthogonalize_via_newton_schulz(jnp.array(x)))
    assert np.isfinite(step).all()
    assert np.linalg.norm(step, 2) < 1.5


def test_a_kernel_steps_as_by_optax():
  """Once its correction of the first momenta, which here there is none, has faded: 0.95^300 is 2e-7."""
  weights = {"layer": {"kernel": normal(0, 40, 24)}}
  gradients = {"layer": {"kernel": normal(1, 302, 40, 24)}}

  def last(optimizer):
    def step(state, gradient):
      update, state = optimizer.update(gradient, state, weights)
      return state, update

    return jax.lax.scan(step, optimizer.init(weights), gradients)[1]["layer"]["kernel"][-2:]

  by_optax = optax.contrib.muon(-1.0, consistent_rms=STEP_SIZE)
  np.testing.assert_allclose(last(scale_by_muon(0.9, {})), last(by_optax), atol=1e-4)


def test_each_of_the_matrices_of_a_kernel_steps_by_itself():
  kernel, gradient = normal(0, 20, 96), normal(1, 20, 96)
  optimizer = scale_by_muon(0.9, {"encoder": 4})
  (whole,) = updates(optimizer, {"encoder": {"kernel": kernel}}, [{"encoder": {"kernel": gradient}}])
  for index in range(4):
    part = np.s_[:, 24 * index : 24 * (index + 1)]
    (alone,) = updates(optimizer, {"other": {"kernel": kernel[part]}}, [{"other": {"kernel": gradient[part]}}])
    np.testing.assert_allclose(whole["encoder"]["kernel"][part], alone["other"]["kernel"], atol=1e-6)


def test_the_rest_takes_adams_steps():
  """Biases, whatever is no kernel, and kernels of a few columns."""
  weights = {
    "weights": {"write_window": {"kernel": normal(0, 32, 5), "bias": normal(1, 5)}, "canvas": normal(2, 28, 28, 1)},
    "log_scale": normal(3, 1),
  }
  gradients = [jax.tree.map(lambda x, seed=seed: normal(seed, *x.shape), weights) for seed in range(4, 7)]
  ours, adams = (updates(rule, weights, gradients) for rule in (scale_by_muon(0.8, {}), optax.scale_by_adam(0.8)))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), ours, adams)


def scaled(factor, tree):
  return jax.tree.map(lambda x: factor * x, tree)


def test_a_config_clips_and_then_steps_gate_by_gate():
  """The second gradient has a hundred times the norm of the first, and is clipped to twice; a decoder has gates too."""
  config = importlib.import_module("configs.draw").get_config("deep")
  config.train.clip_norm = 2.0
  drawn = [{name: {"kernel": normal(seed, 20, 96)} for name in ("encoder", "decoder")} for seed in (0, 1)]
  first, second = (scaled(1 / optax.tree.norm(one), one) for one in drawn)
  recipe = create_recipe(config, DRAW, 1280)
  directions = updates(scale_by_muon(0.9, {"encoder": 4, "decoder": 4}), first, [first, scaled(2, second)])
  expected = [scaled(-recipe.learning_rate(step), direction) for step, direction in enumerate(directions)]
  found = updates(recipe.optimizer, first, [first, scaled(100, second)])
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-7), found, expected)
