"""The compiled steps of a run, on a tiny VAE."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from latentjax import models
from latentjax.training.state import create_optimizer, learning_rate_schedule
from latentjax.training.step import NEVER, create_steps

IMAGES = np.random.default_rng(0).integers(0, 256, (22, 5, 4, 1), np.uint8)
ORDER, NOISE = jax.random.key(1), jax.random.key(2)


def config_with(**changes):
  config = importlib.import_module("configs.vae").get_config()
  config.model.update({"hidden_dims": (8,), "latent_dim": 3})
  config.train.update({"batch_size": 5, "epochs": 2, "schedule": "constant", "kl_warmup_epochs": 0.0})
  config.update_from_flattened_dict({key.replace("__", "."): value for key, value in changes.items()})
  return config


def steps_with(**changes):
  config = config_with(**changes)
  return create_steps(config, models.create(config.model, IMAGES.shape[1:]), len(IMAGES))


def advance(steps, state, count, epoch=0):
  return steps.train(state, IMAGES, steps.order(ORDER, epoch), NOISE, jnp.int32(count))


def assert_same(a, b):
  jax.tree.map(np.testing.assert_array_equal, jax.device_get(a), jax.device_get(b))


def test_going_on_is_bitwise_the_same_as_never_stopping():
  steps = steps_with()
  whole, _ = advance(steps, steps.init(jax.random.key(0)), 4)
  half, _ = advance(steps, steps.init(jax.random.key(0)), 1)
  kept = jax.tree.map(np.array, jax.device_get(half))
  fresh = steps_with()  # as another process would build it
  resumed, _ = advance(fresh, jax.device_put(kept), 3)
  assert int(resumed.step) == 4
  assert_same(whole, resumed)


def test_the_steps_number_decides_batch_and_noise():
  """At equal weights, two step numbers give two losses, and the same number gives the same."""
  steps = steps_with(train__learning_rate=1e-12)
  losses = []
  for step in (0, 1, 0):
    state = steps.init(jax.random.key(0)).replace(step=jnp.int32(step))
    losses.append(float(advance(steps, state, 1)[1].loss))
  assert losses[0] == losses[2] != losses[1]


def test_one_batch_overfits():
  config = config_with(train__batch_size=3, train__learning_rate=5e-3, data__binarization="static")
  config.model.hidden_dims = (32,)
  images = np.where(IMAGES[:3] > 127, np.uint8(255), np.uint8(0))
  steps = create_steps(config, models.create(config.model, images.shape[1:]), len(images))
  state, first = steps.train(steps.init(jax.random.key(0)), images, steps.order(ORDER, 0), NOISE, jnp.int32(1))
  state, _ = steps.train(state, images, steps.order(ORDER, 0), NOISE, jnp.int32(2000))
  _, last = steps.train(state, images, steps.order(ORDER, 0), NOISE, jnp.int32(50))
  assert first.mean()["elbo"] < -12  # 20 pixels at log 2 each
  assert last.mean()["elbo"] > -6  # three images cost log 3 = 1.1 nats at best


def test_reported_elbo_has_beta_one_during_warm_up():
  """The replaced project logged the annealed loss as its ELBO."""
  steps = steps_with(train__kl_warmup_epochs=1000.0)
  _, metrics = advance(steps, steps.init(jax.random.key(0)), 1)
  mean = metrics.mean()
  assert float(steps.beta(0)) == 0
  assert mean["kl"] > 0.01
  assert mean["loss"] == pytest.approx(mean["reconstruction"])
  assert mean["elbo"] == pytest.approx(-(mean["kl"] + mean["reconstruction"]))


def test_an_epoch_sees_each_image_at_most_once():
  steps = steps_with()
  order = np.asarray(steps.order(ORDER, 3))
  assert sorted(order) == list(range(len(IMAGES)))
  assert (order != np.asarray(steps.order(ORDER, 4))).any()


@pytest.mark.parametrize(("binarization", "grey_matters"), [("dynamic", True), ("static", False), ("none", False)])
def test_only_dynamic_binarisation_draws_pixels_anew(binarization, grey_matters):
  """With a constant decoder the reconstruction moves from step to step only if the pixels do."""
  steps = steps_with(data__binarization=binarization, train__batch_size=22, train__learning_rate=1e-12)
  reconstructions = []
  for step in (0, 1):
    state = steps.init(jax.random.key(0)).replace(step=jnp.int32(step))
    params = jax.tree.map(jnp.zeros_like, state.params)
    params["pixels"]["bias"] = jnp.linspace(-1.0, 1.0, 20)
    reconstructions.append(float(advance(steps, state.replace(params=params), 1)[1].reconstruction))
  assert (abs(reconstructions[0] - reconstructions[1]) > 1e-3) == grey_matters


def test_diverging_names_the_first_bad_step():
  steps = steps_with()
  state, metrics = advance(steps, steps.init(jax.random.key(0)), 2)
  assert int(metrics.diverged_at) == NEVER
  broken = state.replace(params=jax.tree.map(lambda x: x * jnp.inf, state.params))
  assert int(advance(steps, broken, 2)[1].diverged_at) == 2


def test_average_follows_its_recursion():
  steps = steps_with(train__ema_decay=0.4)
  state = steps.init(jax.random.key(0))
  average = np.array(state.params["pixels"]["kernel"], np.float64)
  for step in range(3):
    state, _ = advance(steps, state, 1)
    decay = min(0.4, (1 + step) / (10 + step))
    average = decay * average + (1 - decay) * np.array(state.params["pixels"]["kernel"], np.float64)
  np.testing.assert_allclose(state.eval_params["pixels"]["kernel"], average, rtol=1e-5, atol=1e-7)


def test_without_average_the_weights_themselves_are_evaluated():
  state = steps_with(train__ema_decay=0.0).init(jax.random.key(0))
  assert state.average is None
  assert state.eval_params is state.params


@pytest.mark.parametrize(
  ("schedule", "expected"), [("constant", [1, 1, 1, 1]), ("linear", [1, 1, 0.5, 0]), ("cosine", [1, 1, 0.5, 0])]
)
def test_learning_rate_is_constant_and_then_falls_to_zero(schedule, expected):
  train = config_with(train__schedule=schedule, train__decay_start=2, train__decay_end=6).train
  rate = learning_rate_schedule(train, steps_per_epoch=10)
  np.testing.assert_allclose([rate(step) / train.learning_rate for step in (0, 20, 40, 60)], expected, atol=1e-6)


def test_gradients_are_clipped_by_their_global_norm():
  """Adam forgets a constant factor, so the moments of two gradients that clip to the same must be equal."""
  train = config_with(train__clip_norm=1.0).train
  optimizer = create_optimizer(train, lambda step: 1e-3)
  params = {"a": jnp.zeros(2), "b": jnp.zeros(1)}
  large = {"a": jnp.array([30.0, 0.0]), "b": jnp.array([40.0])}
  unit = {"a": jnp.array([0.6, 0.0]), "b": jnp.array([0.8])}
  moments = [optimizer.update(gradient, optimizer.init(params))[1] for gradient in (large, unit)]
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), *moments)


def test_importance_samples_tighten_the_training_bound():
  """More samples from the same weights: a smaller loss, while the reported ELBO stays the one-sample bound."""
  means = {}
  for count in (1, 50):
    steps = steps_with(train__importance_samples=count, train__learning_rate=1e-12, train__batch_size=22)
    state = steps.init(jax.random.key(0))
    means[count] = advance(steps, state, 20)[1].mean()
  assert means[50]["loss"] < means[1]["loss"] - 0.05
  assert means[50]["elbo"] == pytest.approx(means[1]["elbo"], abs=0.3)
