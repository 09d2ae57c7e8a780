"""Evaluation against a model of known log-likelihood: all weights are zero but the biases of the pixels."""

import importlib
import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from latentjax import models
from latentjax.inference import evaluation, functions
from latentjax.inference.functions import create_inference_fns
from latentjax.models.elbo import ELBOTerms
from latentjax.training.compile import create_train_fns

IMAGES = np.where(np.random.default_rng(0).random((7, 3, 2, 1)) < 0.4, np.uint8(255), np.uint8(0))
BIASES = np.linspace(-1, 1, 6)


@pytest.fixture(scope="module")
def independent():
  """(inference, variables) of a VAE that ignores its latent, whose posterior is not its prior."""
  config = importlib.import_module("configs.vae").get_config()
  config.model.update({"hidden_dims": (4,), "latent_dim": 2})
  model = models.create_model(config.model, IMAGES.shape[1:])
  params = jax.tree.map(jnp.zeros_like, create_train_fns(config, model, 200).init(jax.random.key(0)).params)
  params["pixels"]["bias"] = jnp.array(BIASES, jnp.float32)
  params["posterior"]["bias"] = jnp.array([0.3, -0.2, -0.1, 0.1])  # means, log standard deviations
  return create_inference_fns(config, model), {"params": params}


def log_likelihoods() -> np.ndarray:
  p = 1 / (1 + np.exp(-BIASES))
  pixels = IMAGES.reshape(7, 6) / 255
  return (pixels * np.log(p) + (1 - pixels) * np.log(1 - p)).sum(-1)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 50])
def test_elbo_counts_every_image_once(independent, batch_size):
  """7 images in batches of 3: padding of the last batch must not count."""
  numbers = evaluation.evaluate_elbo(*independent, IMAGES, jax.random.key(0), batch_size)
  means, log_stds = np.array([0.3, -0.2]), np.array([-0.1, 0.1])
  kl = 0.5 * (means**2 + np.exp(2 * log_stds) - 2 * log_stds - 1).sum()
  assert numbers["reconstruction"] == pytest.approx(-log_likelihoods().mean(), rel=1e-5)
  assert numbers["kl"] == pytest.approx(kl, rel=1e-4)
  assert numbers["kl_per_group"] == pytest.approx([kl], rel=1e-4)
  assert numbers["elbo"] == -(numbers["kl"] + numbers["reconstruction"])


@pytest.mark.parametrize("num_devices", [1, 4])
@pytest.mark.parametrize("batch_size", [1, 3, 7, 50])
def test_every_image_weighs_the_same(batch_size, num_devices):
  """Terms differ between images; batches have one shape, and each its own key."""
  generator = np.random.default_rng(1)
  log_px, kl, weights = generator.normal(size=7), generator.random((7, 2)), generator.normal(0, 3, (5, 7))
  images = np.arange(7, dtype=np.uint8).reshape(7, 1, 1, 1)
  shapes, keys = set(), []

  def evaluate(params, batch, key):
    del params
    shapes.add(batch.shape)
    keys.append(jax.random.key_data(key).tolist())
    index = np.ravel(batch)
    return ELBOTerms(None, jnp.array(log_px[index]), jnp.array(kl[index]), None, None)

  def log_weights(params, batch, key, count):
    del params, key
    assert count == 5
    return jnp.array(weights[:, np.ravel(batch)])

  inference = SimpleNamespace(evaluate=evaluate, log_weights=log_weights, num_devices=num_devices)
  numbers = evaluation.evaluate_elbo(inference, None, images, jax.random.key(0), batch_size)
  assert numbers["reconstruction"] == pytest.approx(-log_px.mean(), rel=1e-5)
  assert numbers["kl_per_group"] == pytest.approx(kl.mean(0), rel=1e-5)
  assert numbers["kl"] == pytest.approx(kl.sum(1).mean(), rel=1e-5)
  assert numbers["elbo_stderr"] == pytest.approx((log_px - kl.sum(1)).std(ddof=1) / np.sqrt(7), rel=1e-5)
  assert {shape[0] % num_devices for shape in shapes} == {0}
  assert len(shapes) == 1
  assert len({str(key) for key in keys}) == len(keys)

  first = list(keys)
  keys.clear()
  evaluation.evaluate_elbo(inference, None, images, jax.random.key(0), batch_size)
  assert keys == first  # every evaluation uses the same noise

  nll = -np.log(np.exp(weights).mean(0))
  numbers = evaluation.negative_log_likelihood(
    inference, None, images, jax.random.key(0), batch_size, 5, lambda _: None
  )
  assert numbers["nll"] == pytest.approx(nll.mean(), rel=1e-5)
  assert numbers["nll_stderr"] == pytest.approx(nll.std(ddof=1) / np.sqrt(7), rel=1e-5)


def test_nll_approaches_the_likelihood_and_reports_every_image(independent):
  done = []
  inference, params = independent
  numbers = evaluation.negative_log_likelihood(inference, params, IMAGES, jax.random.key(0), 3, 4000, done.append)
  assert sum(done) == 7 * 4000
  assert numbers["nll_samples"] == 4000
  assert numbers["nll"] == pytest.approx(-log_likelihoods().mean(), abs=0.02)
  assert numbers["nll_stderr"] == pytest.approx(log_likelihoods().std(ddof=1) / np.sqrt(7), rel=0.1)


def test_nll_in_chunks_is_that_of_all_samples_at_once(monkeypatch):
  """12 samples in chunks of 5: every sample counts once, each chunk has its own key, and the curve uses the first k."""
  weights, counts, keys = np.random.default_rng(2).normal(0, 3, (12, 4)), [], []
  images = np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1)

  def log_weights(params, batch, key, count):
    del params
    first = sum(counts)
    counts.append(count)
    keys.append(jax.random.key_data(key).tolist())
    valid = weights[first : first + count, np.ravel(batch)]
    return jnp.concatenate([valid, jnp.full((5 - count, 4), jnp.nan)])

  monkeypatch.setattr(evaluation, "SAMPLES_PER_CHUNK", 5)
  inference = SimpleNamespace(log_weights=log_weights, num_devices=1)
  numbers = evaluation.negative_log_likelihood(inference, None, images, jax.random.key(0), 4, 12, lambda _: None)
  assert counts == [5, 5, 2]
  assert len(set(map(str, keys))) == 3
  assert [k for k, _ in numbers["nll_curve"]] == [1, 10, 12]
  for k, nll in numbers["nll_curve"]:
    assert nll == pytest.approx(-np.log(np.exp(weights[:k]).mean(0)).mean(), rel=1e-5)
  assert numbers["nll"] == numbers["nll_curve"][-1][1]


@pytest.mark.parametrize("name", ["ladder_vae", "draw"])
def test_log_weights_are_those_of_one_sample_at_a_time(name, monkeypatch):
  """In passes of 3 samples, of which the last repeats rows (K = 10); their mean is taken for weights far below e^-100.

  One program serves every count, and it multiplies images by weights outside of its loop.
  """
  monkeypatch.setattr(functions, "SAMPLES_PER_CHUNK", 10)
  monkeypatch.setattr(evaluation, "SAMPLES_PER_CHUNK", 10)
  monkeypatch.setattr(functions, "ROWS_PER_PASS", 9)
  images = np.random.default_rng(0).integers(0, 256, (3, 20, 14, 1), np.uint8)
  config = tiny.create_config(name)
  model = models.create_model(config.model, images.shape[1:])
  variables = create_train_fns(config, model, 200).init(jax.random.key(0)).variables
  inference, pixels = create_inference_fns(config, model), jnp.asarray(images / 255, jnp.float32)
  one_sample = jax.jit(lambda key: model.apply(variables, pixels, key).log_weight)
  key = jax.random.key(1)
  chunks = [jax.random.fold_in(jax.random.fold_in(key, 0), chunk) for chunk in range(2)]
  expected = np.array([one_sample(jax.random.fold_in(chunk, k)) for chunk in chunks for k in range(10)], np.float64)
  assert expected.max() < -100
  found = evaluation.log_likelihoods(inference, variables, images, key, 3, [1, 10, 14], lambda count: None)
  for k, bound in zip([1, 10, 14], found, strict=True):
    largest = expected[:k].max(0)
    np.testing.assert_allclose(bound, largest + np.log(np.exp(expected[:k] - largest).mean(0)), atol=1e-4)
  assert inference.log_weights._cache_size() == 1


def test_the_encoder_runs_outside_of_the_loop_over_samples():
  """XLA's work, which nothing else here would notice; the loop of the program has the products of the decoder only."""
  config = tiny.create_config("vae", {"model.hidden_dims": (9,), "model.latent_dim": 2})
  model = models.create_model(config.model, (5, 3, 1))
  variables = create_train_fns(config, model, 200).init(jax.random.key(0)).variables
  log_weights = create_inference_fns(config, model).log_weights
  program = log_weights.lower(variables, np.zeros((300, 5, 3, 1), np.uint8), jax.random.key(1), 3).compile().as_text()
  computations = {text.split(maxsplit=1)[0]: text for text in re.split(r"\n(?=%|ENTRY)", program)}

  def products(name):
    """The shapes of the products in a computation, without those of loops that it starts."""
    lines = [line for line in computations[name].splitlines()[1:] if " while(" not in line]
    own = {match[1] for line in lines if (match := re.search(r"= (f32\S*)\{.* dot\(", line))}
    called = {match for line in lines for match in re.findall(r"(?:calls|to_apply)=(%[\w.]+)", line)}
    return own.union(*map(products, called & computations.keys()))

  assert products("ENTRY") >= {"f32[300,9]", "f32[300,4]"}


@pytest.mark.parametrize("batch_size", [2, 5, 50])
def test_active_units_are_those_whose_means_vary(batch_size):
  """Images 0 to 4 (variance 2): units are scaled copies of them, and one is constant."""
  scales = [np.array([[1.0, 0.08, 0.06]]), np.array([[0.0, -0.5]])]  # 0.08^2 * 2 > 0.01 > 0.06^2 * 2
  images = np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1)

  def encode(_, batch):
    return [np.reshape(batch, (-1, 1)) * scale + 7 for scale in scales]

  assert evaluation.active_units(SimpleNamespace(encode=encode, num_devices=1), None, images, batch_size) == [2, 1]


def test_one_importance_sample_is_looser_than_many(independent):
  inference, params = independent
  args = inference, params, np.tile(IMAGES, (40, 1, 1, 1)), jax.random.key(1), 280
  nll = {
    count: evaluation.negative_log_likelihood(*args, num_samples=count, report=lambda _: None)["nll"]
    for count in (1, 20)
  }
  assert nll[1] > nll[20] + 0.02
