"""The count of floating-point operations against formulas, and against XLA's own count where that sees everything."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from latentjax import models
from latentjax.inference.functions import create_inference_fns
from latentjax.runtime.cost import matmul_flops
from latentjax.training.compile import create_train_fns

BATCH = 128


def flops(function, *args) -> int:
  return matmul_flops(jax.make_jaxpr(function)(*args))


def test_products_by_hand():
  a, b = jnp.zeros((3, 4)), jnp.zeros((4, 5))
  assert flops(jnp.matmul, a, b) == 2 * 3 * 4 * 5
  assert flops(jax.jit(lambda a, b: (a @ b).T @ a), a, b) == 2 * 3 * 4 * 5 + 2 * 5 * 3 * 4
  filters, image = jnp.zeros((7, 2, 3)), jnp.zeros((7, 3, 4))
  assert flops(lambda f, x: jnp.einsum("bnh,bhw->bnw", f, x), filters, image) == 2 * 7 * 2 * 3 * 4


def test_a_convolution_by_hand():
  image, kernel = jnp.zeros((2, 3, 9, 9)), jnp.zeros((5, 3, 3, 3))
  assert flops(lambda x, k: jax.lax.conv(x, k, (1, 1), "VALID"), image, kernel) == 2 * (2 * 5 * 7 * 7) * (3 * 3 * 3)


def test_a_scan_counts_as_often_as_it_runs_and_a_branch_once():
  square, one = jnp.eye(4), 2 * 4**3
  assert flops(lambda x: jax.lax.scan(lambda c, _: (c @ x, None), x, None, length=6)[0], square) == 6 * one
  assert flops(lambda x, n: jax.lax.fori_loop(0, n, lambda _, c: c @ x, x), square, 6) == one  # length unknown
  assert flops(lambda x, p: jax.lax.cond(p, lambda x: x @ x @ x, lambda x: x @ x, x), square, True) == 2 * one


def traced(file: str, variant: str, **changes):
  """(train, evaluate) of a config at its own size, traced for a batch of 128 images of 28 x 28 pixels."""
  config = importlib.import_module(f"configs.{file}").get_config(variant)
  config.model.update(changes)
  config.train.batch_size = BATCH
  model = models.create_model(config.model, (28, 28, 1))
  steps, inference = create_train_fns(config, model, BATCH), create_inference_fns(config, model)
  state = jax.eval_shape(steps.init, jax.random.key(0))
  images, order, key = np.zeros((BATCH, 28, 28, 1), np.uint8), np.arange(BATCH), jax.random.key(2)
  train = steps.train.trace(state, images, order, key, 1)
  return train, inference.evaluate.trace(state.variables, images, key)


def test_a_vae_touches_every_weight_once():
  """Forward 2, training 6 operations per weight and image, less the gradient of the image, which nobody asks for."""
  train, evaluate = traced("vae", "default")
  weights = 784 * 512 + 512 * 256 + 256 * 128 + 64 * 256 + 256 * 512 + 512 * 784
  assert matmul_flops(evaluate.jaxpr) == BATCH * 2 * weights
  assert matmul_flops(train.jaxpr) == BATCH * (6 * weights - 2 * 784 * 512)


@pytest.mark.parametrize(("variant", "steps"), [("base", 1), ("filterbank", 2)])
def test_xla_counts_the_same_where_no_loop_hides_anything(variant, steps):
  """XLA counts the cheap operations too, so a little more; of two steps the loop takes one, the last is after it."""
  for one in traced("draw", variant, num_steps=steps):
    ratio = matmul_flops(one.jaxpr) / one.lower().compile().cost_analysis()["flops"]
    assert 0.88 < ratio < 1.0
