"""Floating-point operations against formulas and XLA's own count, and the check of free memory."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from latentjax import models
from latentjax.inference.functions import create_inference_fns
from latentjax.runtime import cost
from latentjax.runtime.cost import compile_checked, free_bytes, matmul_flops
from latentjax.runtime.errors import RunError
from latentjax.training.compile import create_train_fns

BATCH = 128


def flops(function, *args) -> int:
  return matmul_flops(jax.make_jaxpr(function)(*args))


def test_matmul_flops():
  a, b = jnp.zeros((3, 4)), jnp.zeros((4, 5))
  assert flops(jnp.matmul, a, b) == 2 * 3 * 4 * 5
  assert flops(jax.jit(lambda a, b: (a @ b).T @ a), a, b) == 2 * 3 * 4 * 5 + 2 * 5 * 3 * 4
  filters, image = jnp.zeros((7, 2, 3)), jnp.zeros((7, 3, 4))
  assert flops(lambda f, x: jnp.einsum("bnh,bhw->bnw", f, x), filters, image) == 2 * 7 * 2 * 3 * 4


def test_convolution_flops():
  image, kernel = jnp.zeros((2, 3, 9, 9)), jnp.zeros((5, 3, 3, 3))
  assert flops(lambda x, k: jax.lax.conv(x, k, (1, 1), "VALID"), image, kernel) == 2 * (2 * 5 * 7 * 7) * (3 * 3 * 3)


def test_scan_counts_every_iteration_and_cond_one_branch():
  square, one = jnp.eye(4), 2 * 4**3
  assert flops(lambda x: jax.lax.scan(lambda c, _: (c @ x, None), x, None, length=6)[0], square) == 6 * one
  assert flops(lambda x, n: jax.lax.fori_loop(0, n, lambda _, c: c @ x, x), square, 6) == one  # length unknown
  assert flops(lambda x, p: jax.lax.cond(p, lambda x: x @ x @ x, lambda x: x @ x, x), square, True) == 2 * one


def traced(file: str, variant: str, **changes):
  """Returns (train, evaluate) of a config at its own size, traced for a batch of 128 images of 28 x 28 pixels."""
  config = importlib.import_module(f"configs.{file}").get_config(variant)
  config.model.update(changes)
  config.train.batch_size = BATCH
  model = models.create_model(config.model, (28, 28, 1))
  steps, inference = create_train_fns(config, model, BATCH), create_inference_fns(config, model)
  state = jax.eval_shape(steps.init, jax.random.key(0))
  images, order, key = np.zeros((BATCH, 28, 28, 1), np.uint8), np.arange(BATCH), jax.random.key(2)
  train = steps.train.trace(state, images, order, key, 1)
  return train, inference.evaluate.trace(state.variables, images, key)


def test_vae_flops_per_weight():
  """Forward 2, training 6 operations per weight and image, less the unused gradient of the image."""
  train, evaluate = traced("vae", "default")
  weights = 784 * 512 + 512 * 256 + 256 * 128 + 64 * 256 + 256 * 512 + 512 * 784
  assert matmul_flops(evaluate.jaxpr) == BATCH * 2 * weights
  assert matmul_flops(train.jaxpr) == BATCH * (6 * weights - 2 * 784 * 512)


@pytest.mark.parametrize(
  ("file", "variant", "changes"),
  [
    ("draw", "base", {"num_steps": 1}),
    ("draw", "filterbank", {"num_steps": 2}),
    ("conv_ladder", "default", {"levels": "28:1x8z2"}),
  ],
)
def test_flops_match_xla_without_loops(file, variant, changes):
  """XLA also counts the cheap operations, so a little more; of two steps one is in the loop and one after it.

  Of a convolution XLA does not count the products with padding, here 5 %.
  """
  for program in traced(file, variant, **changes):
    ratio = matmul_flops(program.jaxpr) / program.lower().compile().cost_analysis()["flops"]
    assert 0.88 < ratio < 1.0


def outer(x):
  """Makes temporary arrays of 4 MB each."""
  return jnp.sin(x[:, None] * x[None, :]) @ jnp.cos(x[:, None] + x[None, :])


def test_function_larger_than_free_memory_is_refused(monkeypatch):
  traced = jax.jit(outer).trace(jnp.ones(1000))
  monkeypatch.setattr(cost, "free_bytes", lambda: 3_000_000)
  with pytest.raises(RunError, match=r"needs 0\.0 GiB of memory.* GiB are free\. Lower train\.batch_size"):
    compile_checked(traced)
  monkeypatch.setattr(cost, "free_bytes", lambda: 100_000_000)
  np.testing.assert_array_equal(compile_checked(traced)(jnp.ones(1000)), jax.jit(outer)(jnp.ones(1000)))


def test_host_has_free_memory():
  assert 2**20 < free_bytes() < 2**50
