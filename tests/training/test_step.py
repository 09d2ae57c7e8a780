"""Compiled training steps: metrics of stand-in models that reveal their inputs, and learning of a tiny VAE."""

import importlib
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from latentjax import models
from latentjax.inference.functions import create_inference_fns
from latentjax.models.elbo import ELBOTerms
from latentjax.training import step
from latentjax.training.compile import create_train_fns
from latentjax.training.metrics import NO_DIVERGENCE, Metrics

IMAGES = np.random.default_rng(0).integers(0, 256, (22, 5, 4, 1), np.uint8)
ORDER, NOISE = jax.random.key(1), jax.random.key(2)


class Probe:
  """Stand-in for a model whose metrics reveal the pixels, weights and keys that a step used.

  One weight w, initially 0; -log p(x|z) is the sum of pixels and (w - 1)^2; two groups have a KL of 2 and 5.
  """

  STACKED_KERNELS: ClassVar = {}
  image_shape = IMAGES.shape[1:]

  def init(self, init_key, images, sample_key):
    del init_key, images, sample_key
    return {"params": {"w": jnp.zeros(())}}

  def apply(self, variables, images, key, mutable=()):
    terms = self.terms(variables["params"]["w"], images, key)
    return (terms, {}) if mutable else terms

  def terms(self, w, images, key):
    del key
    log_px = -images.sum((1, 2, 3)) - jnp.square(w - 1)
    ones = jnp.ones((len(images), 1))
    return ELBOTerms(images, log_px, jnp.concatenate([2 * ones, 5 * ones], axis=-1), -3 * ones, 4 * ones)


class Numbered(Probe):
  """Image i costs 2^i nats, so a sum over images identifies them."""

  def terms(self, w, images, key):
    cost = 2.0 ** jnp.round(255 * images[:, 0, 0, 0])
    return super().terms(w, images, key).replace(log_px=-cost - 0 * w)


class Noisy(Probe):
  """log p(x|z) ~ N(0, 3) for every image and key; log p(z) - log q(z|x) is always -7."""

  def terms(self, w, images, key):
    return super().terms(w, images, key).replace(log_px=3 * jax.random.normal(key, (len(images),)) - 0 * w)


class Normed(Probe):
  """Has batch statistics: the mean pixel of the batch, and w."""

  def init(self, *args):
    return {**super().init(*args), "batch_stats": {"pixel": jnp.zeros(()), "w": jnp.zeros(())}}

  def apply(self, variables, images, key, mutable=()):
    terms = super().apply(variables, images, key)
    seen = {"pixel": images.mean(), "w": variables["params"]["w"]}
    return (terms, {"batch_stats": seen}) if mutable else terms


class Cusp(Probe):
  """A finite loss whose gradient at w = 0 is infinite."""

  def terms(self, w, images, key):
    return super().terms(w, images, key).replace(log_px=-jnp.broadcast_to(jnp.sqrt(w), (len(images),)))


def config_with(**changes):
  config = importlib.import_module("configs.vae").get_config()
  config.model.update({"hidden_dims": (8,), "latent_dim": 3})
  config.train.update({"batch_size": 5, "epochs": 2, "schedule": "constant", "kl_warmup_epochs": 0.0})
  config.update_from_flattened_dict({key.replace("__", "."): value for key, value in changes.items()})
  return config


def probing(model=None, images=IMAGES, **changes):
  """Returns (training functions, initial state) of a probe."""
  steps = create_train_fns(config_with(**changes), model or Probe(), len(images))
  return steps, steps.init(jax.random.key(0))


def vae_steps(**changes):
  config = config_with(**changes)
  return create_train_fns(config, models.create_model(config.model, IMAGES.shape[1:]), len(IMAGES))


def advance(steps, state, count, epoch=0, images=IMAGES):
  return steps.train(state, images, steps.order(ORDER, epoch), NOISE, count)


def test_resuming_is_bitwise_the_same_as_never_stopping():
  steps = vae_steps()
  whole, _ = advance(steps, steps.init(jax.random.key(0)), 7)
  half, _ = advance(steps, steps.init(jax.random.key(0)), 3)
  kept = jax.tree.map(np.array, jax.device_get(half))
  fresh = vae_steps()  # as in another process
  resumed, _ = advance(fresh, jax.device_put(kept), 4)
  assert int(resumed.step) == 7
  jax.tree.map(np.testing.assert_array_equal, jax.device_get(whole), jax.device_get(resumed))


def test_number_of_steps_is_known_to_the_compiler():
  """In a loop of unknown length a GPU waits for the host before each step."""
  steps, state = probing(Normed())
  arguments, order = (state, IMAGES, steps.order(ORDER, 0)), steps.order(ORDER, 1)
  train = steps.train.lower(*arguments, NOISE, 3)
  statistics = steps.add_batch_statistics.lower(state.stats, state, IMAGES, order, jax.random.key(3), jnp.int32(1), 3)
  for lowered in (train, statistics):
    assert '"known_trip_count":{"n":"3"}' in lowered.compile().as_text()


def test_steps_without_jit_equal_a_compiled_call():
  config = config_with(train__iwae_samples=3, data__binarization="none")
  model = models.create_model(config.model, IMAGES.shape[1:])
  recipe, steps = step.create_recipe(config, model, len(IMAGES)), create_train_fns(config, model, len(IMAGES))
  state, order = steps.init(jax.random.key(0)), steps.order(ORDER, 0)
  total = Metrics.zero()
  for index in range(2):
    state, metrics = step.train_step(recipe, state, IMAGES[order[5 * index : 5 * index + 5]], NOISE)
    total = total + metrics
  expected_state, expected = advance(steps, steps.init(jax.random.key(0)), 2)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), state, expected_state)
  assert total.mean() == pytest.approx(expected.mean(), rel=1e-5)


def test_scenes_are_redrawn_in_every_step_and_equal_for_resident_images_and_batches():
  """Each image is in two scenes of its batch, as their sum shows; the rows of its pixels show its position."""

  class Placed(Probe):
    image_shape = (60, 60, 1)

    def terms(self, w, images, key):
      rows = (images.sum((2, 3)) * np.arange(60.0)[None]).sum(-1, keepdims=True)
      return super().terms(w, images, key).replace(log_px=-images.sum((1, 2, 3)) - 0 * w, kl=rows)

  images = IMAGES // 3  # nothing is clipped
  changes = {"data__name": "two_digits/mnist_digits", "data__binarization": "none", "train__batch_size": 22}
  steps, first = probing(Placed(), images, **changes)
  order, seen = steps.order(ORDER, 0), []
  for resident in (True, False):
    state = jax.tree.map(jnp.copy, first)  # as it is donated
    for index in range(2):
      arguments = (images, order) if resident else (images[None, order], jnp.int32(0))
      state, metrics = steps.train(state, *arguments, NOISE, 1)
      assert metrics.mean()["reconstruction"] == pytest.approx(2 * images.sum() / 255 / 22, rel=1e-5), index
      seen.append(metrics.mean()["kl"])
  assert abs(seen[0] - seen[1]) > 1
  assert seen[:2] == seen[2:]


def test_initial_state_uses_the_statistics_of_pixels():
  class Starting(Probe):
    def init_to_data_mean(self, params, mean, std):
      return {"w": params["w"] + mean.sum() + std.sum()}

  steps, _ = probing(Starting())
  state = steps.init(jax.random.key(0), (jnp.full(IMAGES.shape[1:], 0.25), jnp.full(1, 2.0)))
  assert float(state.params["w"]) == float(state.variables["params"]["w"]) == 7.0
  assert float(steps.init(jax.random.key(0)).params["w"]) == 0.0


def test_one_batch_overfits():
  config = config_with(train__batch_size=3, train__learning_rate=5e-3, data__binarization="static")
  config.model.hidden_dims = (32,)
  images = np.where(IMAGES[:3] > 127, np.uint8(255), np.uint8(0))
  steps = create_train_fns(config, models.create_model(config.model, images.shape[1:]), len(images))
  state, first = advance(steps, steps.init(jax.random.key(0)), 1, images=images)
  state, _ = advance(steps, state, 2000, images=images)
  _, last = advance(steps, state, 50, images=images)
  assert first.mean()["elbo"] < -12  # 20 pixels at log 2 each
  assert last.mean()["elbo"] > -6  # three images cost log 3 = 1.1 nats at best


@pytest.mark.parametrize(
  ("changes", "loss"),
  [
    ({}, 2 + 5),
    ({"train__beta": 0.5}, 0.5 * (2 + 5)),
    ({"train__free_bits": 3.0}, 3 + 5),
    ({"train__kl_warmup_epochs": 1000.0}, 0),  # the replaced project logged this annealed loss as its ELBO
  ],
)
def test_reported_elbo_is_the_true_bound_whatever_the_loss(changes, loss):
  steps, state = probing(data__binarization="static", train__batch_size=22, **changes)
  mean = advance(steps, state, 1)[1].mean()
  reconstruction = IMAGES.reshape(22, -1).sum(1).mean() / 255 + 1
  assert mean["reconstruction"] == pytest.approx(reconstruction, rel=1e-5)
  assert mean["kl"] == pytest.approx(7)
  assert mean["elbo"] == pytest.approx(-(reconstruction + 7), rel=1e-5)
  assert mean["loss"] == pytest.approx(reconstruction + loss, rel=1e-5)


def test_metrics_are_means_over_steps():
  """However the steps of an epoch are divided into calls."""
  images = np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1)
  steps, state = probing(Numbered(), images, data__binarization="none", train__batch_size=2)
  state, first = advance(steps, state, 1, images=images)
  _, others = advance(steps, state, 2, images=images)
  total = jax.device_get(first) + jax.device_get(others)
  assert int(total.steps) == 3
  assert total.mean()["reconstruction"] == pytest.approx((2**6 - 1) / 6)


def test_training_sees_each_image_of_an_epoch_at_most_once():
  """Of seven images, batches of two use six in each epoch, in the epoch's order."""
  images = np.arange(7, dtype=np.uint8).reshape(7, 1, 1, 1)
  steps, state = probing(Numbered(), images, data__binarization="none", train__batch_size=2)
  for epoch in (0, 1):
    order = np.asarray(steps.order(ORDER, epoch))
    assert sorted(order) == list(range(7))
    for batch in np.split(order[:6], 3):
      state, metrics = advance(steps, state, 1, epoch, images)
      assert 2 * metrics.mean()["reconstruction"] == pytest.approx(2.0 ** batch[0] + 2.0 ** batch[1])
  assert (np.asarray(steps.order(ORDER, 0)) != np.asarray(steps.order(ORDER, 1))).any()


@pytest.mark.parametrize(("binarization", "redrawn"), [("dynamic", True), ("static", False), ("none", False)])
def test_only_dynamic_binarization_redraws_pixels(binarization, redrawn):
  steps, state = probing(data__binarization=binarization, train__batch_size=22, train__learning_rate=1e-12)
  sums = []
  for _ in range(3):  # each step sees all images
    state, metrics = advance(steps, state, 1)
    sums.append(22 * (metrics.mean()["reconstruction"] - 1))
  grey = IMAGES.sum() / 255
  if redrawn:
    assert len({round(total) for total in sums}) == 3
    np.testing.assert_allclose(sums, np.round(sums), atol=0.01)  # whole pixels: zero or one
    np.testing.assert_allclose(sums, grey, rtol=0.2)
  else:
    np.testing.assert_allclose(sums, grey, rtol=1e-5)


def test_evaluation_does_not_binarize():
  """The replaced project redrew its binary test set in every evaluation."""
  _, state = probing(data__binarization="dynamic")
  grey = IMAGES.reshape(22, -1).sum(1) / 255
  inference = create_inference_fns(config_with(data__binarization="dynamic"), Probe())
  terms = inference.evaluate(state.variables, IMAGES, jax.random.key(0))
  np.testing.assert_allclose(terms.log_px, -grey - 1, rtol=1e-5)
  weights = inference.log_weights(state.variables, IMAGES, jax.random.key(0), 3)[:3]
  np.testing.assert_allclose(weights, np.tile(-grey - 1 - 7, (3, 1)), rtol=1e-5)


def test_importance_weighting_by_config():
  """For 2000 weights exp(N(0, 3)), the log of the mean is near 9/2 and the mean of the logs 0."""
  means = {}
  for beta in (0.0, 1.0):
    steps, state = probing(Noisy(), train__iwae_samples=2000, train__beta=beta)
    means[beta] = advance(steps, state, 1)[1].mean()
  assert -5.5 < means[0.0]["loss"] < -2.5
  assert means[0.0]["reconstruction"] == pytest.approx(0, abs=0.2)
  assert means[1.0]["loss"] - means[0.0]["loss"] == pytest.approx(7, rel=1e-4)


def test_importance_weighting_starts_with_its_epoch():
  """Before it the loss is the negative ELBO; the bound of the weights above is about 4 nats better."""
  steps, state = probing(Noisy(), train__iwae_samples=2000, train__iwae_start_epoch=1)
  gains = []
  for _ in range(5):  # an epoch has 4 steps
    state, metrics = advance(steps, state, 1)
    gains.append(-metrics.mean()["loss"] - metrics.mean()["elbo"])
  assert gains[:4] == pytest.approx([0] * 4, abs=1e-4)
  assert 2.5 < gains[4] < 5.5


def test_divergence_reports_the_first_step():
  steps, state = probing()
  state, metrics = advance(steps, state, 2)
  assert int(metrics.diverged_at) == NO_DIVERGENCE
  broken = state.replace(params={"w": jnp.array(jnp.nan)})
  broken, metrics = advance(steps, broken, 2)
  assert int(metrics.diverged_at) == 2
  later = jax.device_get(metrics) + jax.device_get(advance(steps, broken, 1)[1])
  assert int(later.diverged_at) == 2


def test_an_infinite_gradient_of_a_finite_loss_is_a_divergence():
  steps, state = probing(Cusp())
  _, metrics = advance(steps, state, 1)
  assert np.isfinite(metrics.loss)
  assert int(metrics.diverged_at) == 0


def test_average_follows_its_recursion():
  """It averages the weights after each step."""
  steps, state = probing(train__ema_decay=0.15)
  average = 0.0
  for index in range(4):
    state, _ = advance(steps, state, 1)
    decay = min(0.15, (1 + index) / (10 + index))  # 0.1 at first, held at 0.15 before the last
    average = decay * average + (1 - decay) * float(state.params["w"])
    assert float(state.variables["params"]["w"]) == pytest.approx(average, rel=1e-5)
  assert float(state.params["w"]) > 0


@pytest.mark.parametrize(("ema_decay", "decay"), [(0.0, 0.99), (0.15, 0.15)])
def test_batch_statistics_are_averaged_over_steps(ema_decay, decay):
  steps, state = probing(Normed(), train__ema_decay=ema_decay)
  average = 0.0
  for index in range(4):
    seen = float(state.params["w"])
    state, _ = advance(steps, state, 1)
    current = min(decay, (1 + index) / (10 + index))
    average = current * average + (1 - current) * seen
    assert float(state.stats["w"]) == pytest.approx(average, rel=1e-5)
  assert state.variables["batch_stats"] is state.stats


def test_recomputed_statistics_are_those_of_the_evaluated_weights_over_an_epoch():
  steps, state = probing(Normed(), data__binarization="none")
  state, _ = advance(steps, state, 3)
  order = steps.order(ORDER, 0)
  total = jax.tree.map(jnp.zeros_like, state.stats)
  for first, count in ((0, 3), (3, 1)):
    total = steps.add_batch_statistics(total, state, IMAGES, order, NOISE, first, count)
  batches = IMAGES[np.asarray(order)][:20]  # batches of 5, the rest of an epoch is left out
  assert float(total["pixel"]) / 4 == pytest.approx(batches.mean() / 255, rel=1e-5)
  assert float(total["w"]) / 4 == pytest.approx(float(state.average["w"]), rel=1e-5)
  assert float(total["w"]) / 4 != pytest.approx(float(state.params["w"]), rel=1e-2)


def test_without_average_the_weights_themselves_are_evaluated():
  _, state = probing(train__ema_decay=0.0)
  assert state.average is None
  assert state.variables["params"] is state.params


def test_learning_rate_is_that_of_the_config():
  """Adam's first step has the size of the learning rate."""
  steps, state = probing(train__learning_rate=0.02)
  state, _ = advance(steps, state, 1)
  assert float(state.params["w"]) == pytest.approx(0.02, rel=1e-4)


@pytest.mark.parametrize(
  ("precision", "written"),
  [
    ("float32", "precision = [HIGHEST, HIGHEST]"),
    ("tensorfloat32", "[HIGH, HIGH]"),
    ("bfloat16", None if jax.default_backend() == "cpu" else "lhs_precision_type = bf16"),
  ],
)
def test_precision_reaches_every_product(precision, written):
  """In forward and backward pass, whatever the default of the process."""
  steps = vae_steps(precision=precision)
  state = jax.eval_shape(steps.init, jax.random.key(0))
  text = steps.train.lower(state, IMAGES, steps.order(ORDER, 0), NOISE, 1).as_text()
  products = [line for line in text.splitlines() if "dot_general" in line]
  assert len(products) == 3 * 4 - 1  # each product has two gradients, but that of the image is not needed
  if written:
    assert all(written in line for line in products), products
  else:  # both inputs are bfloat16, or float32 and rounded
    of_float32 = [line for line in products if "xbf16>) -> tensor<" not in line]
    assert len(of_float32) == 4
    assert text.count("stablehlo.reduce_precision") == 2 * len(of_float32)


@pytest.mark.parametrize(
  ("name", "variant", "changes"),
  [
    ("draw", "filterbank", {"model.num_steps": 64, "model.remat": "sqrt"}),
    ("ladder_vae", "default", {}),
  ],
)
def test_constant_images_train(name, variant, changes):
  """All black and all white, ten times the learning rate, T = 64, products in bfloat16."""
  config = importlib.import_module(f"configs.{name}").get_config(variant)
  config.update_from_flattened_dict(tiny.MODELS[name] | changes | {"precision": "bfloat16"})
  config.train.update({"batch_size": 8, "learning_rate": 10 * config.train.learning_rate, "kl_warmup_epochs": 0.0})
  shape = (8, 6, 5, 1)
  steps = create_train_fns(config, models.create_model(config.model, shape[1:]), shape[0])
  for value in (0, 255):
    images = np.full(shape, value, np.uint8)
    order_key, noise_key, init_key = jax.random.split(jax.random.key(value), 3)
    state, order = steps.init(init_key), steps.order(order_key, 0)
    state, first = steps.train(state, images, order, noise_key, 1)
    state, rest = steps.train(state, images, order, noise_key, 40)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.device_get(state.params)))
    assert rest.diverged_at == NO_DIVERGENCE
    assert rest.mean()["elbo"] > first.mean()["elbo"]
