"""Fused steps against the reference under every plan: all outputs, and gradients of all inputs."""

import dataclasses
import os
import subprocess
import sys
from functools import cache, partial
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from latentjax.models.draw import fused
from latentjax.models.draw.model import DRAW
from latentjax.models.draw.plan import ExecutionPlan, choose_plan
from latentjax.models.draw.reference import infer_step, initial_state

BATCH, STEPS, LATENTS = 2, 3, 2
BASE = ("none", (5, 6, 1), False, "standard")
COLOUR, WINDOW = ("none", (4, 3, 2), True, "learned"), ("filterbank", (6, 5, 2), True, "learned")
PLANS = {backend: choose_plan(0, "auto", "none", STEPS, backend) for backend in ("cpu", "gpu")}
CPU, GPU = PLANS.values()


@cache
def create(attention: str, shape, layer_norm: bool, prior: str, steps: int = STEPS):
  """Returns (model, (weights as large as trained ones, images, noise))."""
  sizes = {"hidden_dim": 4, "latent_dim": LATENTS, "read_size": 2, "write_size": 3}
  model = DRAW(shape, attention, steps, layer_norm=layer_norm, prior=prior, **sizes)
  start = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *shape)), jax.random.key(1))["params"]["weights"]
  generator = np.random.default_rng(0)
  weights = jax.tree.map(lambda x: jnp.array(generator.normal(0, 0.4, x.shape), jnp.float32), start)
  images = jnp.array(generator.random((BATCH, *shape)) < 0.5, jnp.float32)
  return model, (weights, images, jnp.array(generator.normal(size=(steps, BATCH, LATENTS)), jnp.float32))


def by_reference(model, weights, images, noise):
  step = partial(infer_step, model.heads, jax.nn.sigmoid, images, weights)
  state, inferred = jax.lax.scan(step, initial_state(weights, BATCH), noise)
  return state.canvas, inferred


def by_plan(plan, model, weights, images, noise):
  return fused.infer(model.heads, weights, images, noise, jax.nn.sigmoid, lambda inferred: inferred, plan)


def loss(infer, model, weights, images, noise):
  """A scalar that depends on every output of every step."""
  outputs = infer(model, weights, images, noise)
  return sum(jnp.sin(output).mean() for output in jax.tree.leaves(outputs)), outputs


def value_and_gradients(infer, model, arguments):
  return jax.jit(jax.value_and_grad(partial(loss, infer, model), argnums=(0, 1, 2), has_aux=True))(*arguments)


@cache
def expected(*case):
  return value_and_gradients(by_reference, *create(*case))


def check_equals_reference(plan: ExecutionPlan, *case):
  actual = value_and_gradients(partial(by_plan, plan), *create(*case))
  chex.assert_trees_all_close(actual, expected(*case), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize("case", [BASE, COLOUR, WINDOW], ids=["base", "colour", "window"])
def test_by_default(plan, case):
  check_equals_reference(plan, *case)


@pytest.mark.parametrize(
  ("backend", "change"),
  [
    ("cpu", {"unroll": 2, "attention_impl": "gpu"}),
    ("cpu", {"weight_gradients": "deferred", "peel_last": False}),
    ("cpu", {"remat": "step"}),
    ("cpu", {"remat": "sqrt"}),
    ("gpu", {"unroll": 1, "alignment": 16}),
    ("gpu", {"weight_gradients": "per_step", "peel_last": True, "attention_impl": "cpu"}),
  ],
  ids=str,
)
def test_with_other_fields(backend, change):
  check_equals_reference(dataclasses.replace(PLANS[backend], **change), *WINDOW)


@pytest.mark.parametrize("plan", [CPU, GPU, dataclasses.replace(CPU, remat="sqrt")], ids=["cpu", "gpu", "sqrt"])
def test_of_a_single_step(plan):
  check_equals_reference(plan, *WINDOW, 1)


def test_of_several_seeds():
  """Each with its own weights, images and noise, as with `train.num_seeds`."""
  model, arguments = create(*WINDOW)
  seeds = jax.tree.map(lambda x: jnp.stack([x, 0.5 * x]), arguments)

  def over_seeds(infer):
    return jax.jit(jax.vmap(jax.value_and_grad(partial(loss, infer, model), argnums=(0, 1, 2), has_aux=True)))(*seeds)

  wanted = over_seeds(by_reference)
  for unroll in (1, STEPS):
    actual = over_seeds(partial(by_plan, dataclasses.replace(GPU, unroll=unroll)))
    chex.assert_trees_all_close(actual, wanted, rtol=1e-5, atol=1e-5)


def test_of_several_importance_samples():
  """Several noise samples for the same weights and images, as with `train.iwae_samples`."""
  model, (weights, images, noise) = create(*WINDOW)

  samples = jnp.stack([noise, -noise, 2 * noise])

  def over_samples(infer):
    def bound(weights, images, noise):
      values, outputs = jax.vmap(partial(loss, infer, model, weights, images))(noise)
      return jax.nn.logsumexp(values), outputs

    return jax.jit(jax.value_and_grad(bound, argnums=(0, 1, 2), has_aux=True))(weights, images, samples)

  wanted = over_samples(by_reference)
  for unroll in (1, STEPS):
    actual = over_samples(partial(by_plan, dataclasses.replace(GPU, unroll=unroll)))
    chex.assert_trees_all_close(actual, wanted, rtol=1e-5, atol=1e-5)


def test_with_all_xla_optimizations():
  """The other tests run without most of them."""
  command = [sys.executable, "-m", "pytest", "-n0", "-k", "by_default and window and cpu", __file__]
  run = subprocess.run(
    command,
    env=os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "0", "XLA_FLAGS": ""},
    cwd=Path(__file__).parents[2],
    capture_output=True,
    text=True,
  )
  assert run.returncode == 0, run.stdout
  assert "1 passed" in run.stdout


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_only_the_plan_depends_on_the_platform(platform):
  """Lowering for another device gives the same operations."""
  model, arguments = create(*WINDOW)
  traced = jax.jit(jax.grad(lambda *x: loss(partial(by_plan, GPU), model, *x)[0])).trace(*arguments)
  texts = [traced.lower(lowering_platforms=(each,)).as_text() for each in (platform, "cpu")]
  assert texts[0] == texts[1]


def test_memory_grows_with_the_root_of_the_number_of_steps():
  def temporary_bytes(remat: str, steps: int) -> int:
    model = DRAW((28, 28, 1), "none", steps, hidden_dim=4, latent_dim=LATENTS, prior="standard", remat=remat)

    def loss(params, images, key):
      return -model.apply(params, images, key).elbo.mean()

    images, key = jnp.zeros((32, 28, 28, 1)), jax.random.key(0)
    params = jax.eval_shape(model.init, key, images, key)
    return jax.jit(jax.grad(loss)).lower(params, images, key).compile().memory_analysis().temp_size_in_bytes

  few, many = 16, 256
  growth = {remat: temporary_bytes(remat, many) / temporary_bytes(remat, few) for remat in ("none", "sqrt")}
  assert growth["sqrt"] < 4 < growth["none"]
