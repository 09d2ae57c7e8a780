"""The VAE against numpy, with a test for the bug that kept variances above one in the project it replaces."""

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest

from latentjax.models.vae import VAE

SHAPE = (4, 5, 1)
IMAGES = (np.random.default_rng(0).random((3, *SHAPE)) < 0.5).astype(np.float32)


def create(**fields):
  """Returns (model, params) with random weights, including biases and scales, so that each matters."""
  model = VAE(SHAPE, hidden_dims=(6, 4), latent_dim=2, **fields)
  params = jax.jit(model.init)(jax.random.key(0), jnp.array(IMAGES), jax.random.key(1))["params"]
  generator = np.random.default_rng(1)
  return model, jax.tree.map(lambda leaf: leaf + jnp.array(0.3 * generator.random(leaf.shape), jnp.float32), params)


def dense(layer, x):
  return x @ np.asarray(layer["kernel"], np.float64) + np.asarray(layer["bias"], np.float64)


def layer_norm(layer, x):
  scale, bias = (np.asarray(layer[name], np.float64) for name in ("scale", "bias"))
  return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * scale + bias


ACTIVATIONS = {"relu": lambda x: np.maximum(x, 0), "tanh": np.tanh, "silu": lambda x: x * oracle.sigmoid(x)}


def dense_network(params, x, activation):
  for name in ("Dense_0", "Dense_1"):
    x = activation(dense(params[name], x))
  return x


def residual_network(params, x, activation):
  """A residual stream with one block."""
  x = dense(params["Dense_0"], x)
  block = params["ResidualBlock_0"]
  hidden = activation(dense(block["Dense_0"], layer_norm(block["LayerNorm_0"], x)))
  return activation(layer_norm(params["LayerNorm_0"], x + dense(block["Dense_1"], hidden)))


@pytest.mark.parametrize("network", ["dense", "residual"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_terms_equal_numpy(activation, network):
  model, params = create(activation=activation, network=network)
  terms = jax.jit(model.apply)({"params": params}, IMAGES, jax.random.key(2))
  through = {"dense": dense_network, "residual": residual_network}[network]
  x = through(params["encoder"], IMAGES.reshape(3, -1).astype(np.float64), ACTIVATIONS[activation])
  mean, log_std = np.split(dense(params["posterior"], x), 2, axis=-1)
  z = mean + np.exp(log_std) * np.asarray(jax.random.normal(jax.random.key(2), (3, 2)), np.float64)
  logits = dense(params["pixels"], through(params["decoder"], z, ACTIVATIONS[activation])).reshape(IMAGES.shape)

  def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)

  close(terms.mean, oracle.sigmoid(logits))
  close(terms.log_px, [oracle.bernoulli_log_prob(logits[b], IMAGES[b]) for b in range(3)])
  close(terms.kl[:, 0], 0.5 * (mean**2 + np.exp(2 * log_std) - 2 * log_std - 1).sum(-1))
  close(terms.log_pz[:, 0], oracle.gaussian_log_prob(z, np.zeros_like(z), np.zeros_like(z)))
  close(terms.log_qz[:, 0], oracle.gaussian_log_prob(z, mean, log_std))


def test_posterior_variance_may_fall_below_one():
  """The replaced project applied softplus to the log-variance, so no variance could."""
  model, params = create()
  params["posterior"]["bias"] = jnp.array([0.0, 0.0, -3.0, -3.0])
  params["posterior"]["kernel"] = jnp.zeros_like(params["posterior"]["kernel"])
  kl = model.apply({"params": params}, IMAGES, jax.random.key(0)).kl
  np.testing.assert_allclose(kl, 0.5 * 2 * (np.exp(-6.0) + 6.0 - 1.0), rtol=1e-5)


def test_analytic_kl_is_the_mean_of_its_samples():
  model, params = create()
  keys = jax.random.split(jax.random.key(0), 20_000)
  terms = jax.vmap(lambda key: model.apply({"params": params}, IMAGES, key))(keys)
  difference = np.asarray(terms.log_qz - terms.log_pz)[..., 0]  # [K, B]
  error = difference.std(0) / np.sqrt(len(keys))
  assert (np.abs(difference.mean(0) - terms.kl[0, :, 0]) < 4 * error + 1e-4).all()


def test_samples_are_probabilities_of_new_latents():
  model, params = create()
  samples = model.apply({"params": params}, jax.random.key(0), 5, method="sample")
  assert samples.shape == (5, *SHAPE)
  assert ((samples > 0) & (samples < 1)).all()
  assert len(np.unique(np.asarray(samples).reshape(5, -1), axis=0)) == 5
