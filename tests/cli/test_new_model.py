"""A model of a user: one class that follows `models.base.Model`, and one line in MODELS."""

import json
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import pytest
import tiny
from flax import linen as nn

from latentjax import models
from latentjax.cli import compare, evaluate, explore, sample, train
from latentjax.config.schema import AT_LEAST_ONE, key
from latentjax.models.base import ImageGrid
from latentjax.models.distributions import Gaussian
from latentjax.models.elbo import ELBOTerms
from latentjax.models.likelihoods import Bernoulli
from latentjax.runtime.errors import UsageError


class Blobs(nn.Module):
  """q(z | x) = N(W x, 1) and linear logits: a minimal latent-variable model."""

  STACKED_KERNELS: ClassVar = {}

  image_shape: tuple[int, int, int]
  latent_dim: int = key(2, AT_LEAST_ONE, "latents of an image")

  @staticmethod
  def validate(fields, image_shape):
    return "model.latent_dim = 7 brings bad luck" if fields["latent_dim"] == 7 else None

  @staticmethod
  def display_name(fields):
    return f"Blobs of {fields['latent_dim']}"

  def setup(self):
    self.mean, self.pixels = nn.Dense(self.latent_dim), nn.Dense(math.prod(self.image_shape))

  def init_to_data_mean(self, params, mean, std):
    del std
    return params | {"pixels": params["pixels"] | {"bias": Bernoulli().init_params(mean).ravel()}}

  def __call__(self, images, key):
    mean = self.encode(images)[0]
    noise = jax.random.normal(key, mean.shape)
    z = mean + noise
    logits = self.pixels(z).reshape(images.shape)
    kl = 0.5 * jnp.square(mean).sum(-1, keepdims=True)
    log_pz, log_qz = (-0.5 * (jnp.square(x) + math.log(2 * math.pi)).sum(-1, keepdims=True) for x in (z, noise))
    return ELBOTerms(Bernoulli().mean(logits), Bernoulli().log_prob(logits, images), kl, log_pz, log_qz)

  def encode(self, images):
    return (self.mean(images.reshape(len(images), -1)),)

  def posteriors(self, images, key):
    (mean,) = self.encode(images)
    return (Gaussian(mean, jnp.zeros_like(mean)),)

  def decode(self, latents):
    return Bernoulli().mean(self.pixels(latents[0]).reshape(-1, *self.image_shape))

  def sample(self, key, num_samples):
    return self.decode([jax.random.normal(key, (num_samples, self.latent_dim))])

  def pictures(self, key, images):
    return {"blobs.png": ImageGrid(self.sample(key, 6).reshape(2, 3, *self.image_shape))}


@pytest.fixture
def config(monkeypatch):
  monkeypatch.setitem(models.MODELS, "blobs", Blobs)
  config = models.default_config("blobs")
  assert config.model.to_dict() == {"name": "blobs", "latent_dim": 2}
  config.update_from_flattened_dict({**tiny.RUN, "model.latent_dim": 3, "train.epochs": 2})
  return config


def test_it_trains_evaluates_samples_and_compares(config, tmp_path, capsys):
  workdir = tmp_path / "run"
  train.run(config, workdir)
  results = json.loads((workdir / "results.json").read_text())
  (workdir / "blobs.png").unlink()
  evaluate.run(config, workdir)
  again = json.loads((workdir / "results.json").read_text())
  assert again["test"] == results["test"]
  sample.run(config, workdir)
  assert (workdir / "blobs.png").exists()
  with pytest.raises(UsageError, match="no page for a model named 'blobs'"):
    explore.run(config, workdir)
  compare.run([str(workdir)], tmp_path / "compared")
  assert "Blobs of 3" in (tmp_path / "compared" / "comparison.md").read_text()


def test_its_own_rules_are_kept(config):
  config.model.latent_dim = 0
  with pytest.raises(UsageError, match=r"model\.latent_dim must be a whole number, at least 1"):
    models.check_model(config.model)
  config.model.latent_dim = 7
  with pytest.raises(UsageError, match="bad luck"):
    models.check_model(config.model)
  with config.unlocked():
    del config.model.latent_dim
  with pytest.raises(UsageError, match=r"model\.latent_dim is missing"):
    models.check_model(config.model)
