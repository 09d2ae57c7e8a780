"""The regrouped recurrence against the step as it is written, and its gradients."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from latentjax.models import merged
from latentjax.models.draw import DRAW, infer_step
from latentjax.models.likelihoods import Bernoulli
from latentjax.models.recurrence import Options, options, scan

BATCH, STEPS, LATENTS = 3, 4, 2


def create(attention: str, shape=(5, 6, 1), steps=STEPS, **fields):
  """(model, weights of ordinary size everywhere, images, noise)."""
  model = DRAW(shape, attention, steps, hidden_dim=4, latent_dim=LATENTS, read_size=2, write_size=3, **fields)
  start = model.init(jax.random.key(0), jnp.zeros((1, *shape)), jax.random.key(1))["params"]["weights"]
  generator = np.random.default_rng(0)
  weights = jax.tree.map(lambda x: jnp.array(generator.normal(0, 0.4, x.shape), jnp.float32), start)
  images = jnp.array(generator.random((BATCH, *shape)) < 0.5, jnp.float32)
  return model, weights, images, jnp.array(generator.normal(size=(steps, BATCH, LATENTS)), jnp.float32)


def as_written(model, weights, images, noise):
  state = jax.tree.map(lambda x: jnp.broadcast_to(x, (BATCH, *x.shape)), weights["initial"])
  state, (q, z, _) = scan(partial(infer_step, model.make_attention(), images), weights, state, noise)
  return state.canvas, (q, z)


def regrouped(how, model, weights, images, noise):
  attend = model.make_attention(by_products=not how.gradients_after)
  return merged.infer(attend, weights, images, noise, lambda q, z: (q, z), how)


def loss(infer, model, weights, images, noise):
  """Something that every output reaches, z by itself too."""
  canvas, (q, z) = infer(model, weights, images, noise)
  value = -Bernoulli().log_prob(canvas, images).mean() + q.kl_to_standard().mean() + jnp.sin(z).mean()
  return value, (canvas, q, z)


BASE, COLOUR, WINDOW = ("none", (5, 6, 1), False), ("none", (4, 3, 2), True), ("filterbank", (6, 5, 2), True)


@pytest.mark.parametrize(
  ("attention", "shape", "layer_norm", "how"),
  [
    (*BASE, Options(1, False, "none")),
    (*COLOUR, Options(3, True, "none")),
    (*WINDOW, Options(1, False, "none")),
    (*WINDOW, Options(3, True, "none")),
    (*BASE, Options(1, False, "step")),
    (*WINDOW, Options(2, False, "sqrt")),
  ],
)
def test_values_and_gradients_are_those_of_the_step_as_written(attention, shape, layer_norm, how):
  require_same_as_written(how, *create(attention, shape, layer_norm=layer_norm))


@pytest.mark.parametrize("how", [Options(2, False, "none"), Options(1, False, "sqrt"), Options(1, True, "none")])
def test_a_single_step_is_the_last(how):
  require_same_as_written(how, *create("filterbank", steps=1))


def require_same_as_written(how, model, *arguments):
  expected, actual = (
    jax.jit(jax.value_and_grad(partial(loss, infer, model), argnums=(0, 2), has_aux=True))(*arguments)
    for infer in (as_written, partial(regrouped, how))
  )
  chex.assert_trees_all_close(actual, expected, rtol=1e-5, atol=1e-5)


def test_options_by_backend_can_be_overruled():
  assert options(0, "auto", "none", 10, "cpu") == (1, False, "none")
  assert options(0, "auto", "none", 10, "gpu") == (10, True, "none")
  assert options(0, "auto", "sqrt", 10, "gpu") == (1, False, "sqrt")
  assert options(3, "after", "none", 10, "cpu") == (3, True, "none")
  assert options(64, "step", "step", 10, "gpu") == (10, False, "step")


def test_memory_grows_with_the_root_of_the_number_of_steps():
  def temporary_bytes(remat: str, steps: int) -> int:
    model = DRAW((28, 28, 1), "none", steps, hidden_dim=4, latent_dim=LATENTS, remat=remat)

    def loss(params, images, key):
      return -model.apply(params, images, key).elbo.mean()

    images, key = jnp.zeros((32, 28, 28, 1)), jax.random.key(0)
    params = jax.eval_shape(model.init, key, images, key)
    return jax.jit(jax.grad(loss)).lower(params, images, key).compile().memory_analysis().temp_size_in_bytes

  few, many = 16, 256
  growth = {remat: temporary_bytes(remat, many) / temporary_bytes(remat, few) for remat in ("none", "sqrt")}
  assert growth["sqrt"] < 4 < growth["none"]
