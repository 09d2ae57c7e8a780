"""Names of metrics, bits per dimension, and protocols that separate runs."""

import importlib
import math

import pytest

from latentjax.workdir.protocol import protocol_of


def metric_names(binarization: str, likelihood: str | None):
  config = importlib.import_module("configs.vae").get_config()
  config.data.binarization = binarization
  config.model.likelihood = likelihood
  return protocol_of(config).metric_names


@pytest.mark.parametrize(
  ("binarization", "likelihood", "names", "bits"),
  [
    ("dynamic", "bernoulli", ["ELBO", "KL", "reconstruction", "NLL"], False),
    ("static", "bernoulli", ["ELBO", "KL", "reconstruction", "NLL"], False),
    ("none", "bernoulli", ["CE bound", "KL", "cross-entropy", "marginal CE"], False),
    ("none", "discretized_logistic", ["ELBO", "KL", "reconstruction", "NLL"], True),
    ("none", "logistic_mixture", ["ELBO", "KL", "reconstruction", "NLL"], True),
    ("none", "custom_likelihood", ["ELBO", "KL", "reconstruction", "NLL"], False),
  ],
)
def test_only_grey_values_under_a_bernoulli_are_cross_entropies(binarization, likelihood, names, bits):
  own = metric_names(binarization, likelihood)
  assert [*own.terms.values(), own.nll] == names
  assert own.bits == bits
  assert ("cross-entropy" in (own.note or "")) == (own.nll == "marginal CE")


def test_bits_per_dim_are_nats_over_values_and_ln_2():
  numbers = {"elbo": -12 * 3 * math.log(2) * 4.5, "nll": 12 * 3 * math.log(2) * 4.25, "kl": 1.0}
  own = metric_names("none", "discretized_logistic")
  assert own.in_bits(numbers, (4, 3, 3)) == numbers | {
    "bits_per_dim": pytest.approx(4.5),
    "nll_bits_per_dim": pytest.approx(4.25),
  }
  assert own.in_bits({"elbo": [-math.log(2), -2 * math.log(2)]}, (1, 1, 1))["bits_per_dim"] == pytest.approx([1, 2])
  assert metric_names("none", "bernoulli").in_bits(numbers, (4, 3, 3)) == numbers


def test_runs_of_other_sizes_are_not_comparable():
  config = importlib.import_module("configs.vae").get_config()
  config.data.update({"name": "mine", "image_size": 32})
  small = protocol_of(config)
  config.data.image_size = 64
  assert protocol_of(config) != small
  assert small.title == "mine at 32 x 32 pixels, dynamic binarization"


def test_runs_of_another_likelihood_are_not_comparable():
  config = importlib.import_module("configs.vae").get_config()
  config.data.binarization = "none"
  grey = protocol_of(config)
  config.model.likelihood = "discretized_logistic"
  assert protocol_of(config) != grey
  assert (grey.title, protocol_of(config).title) == (
    "mnist_digits, no binarization, cross-entropy",
    "mnist_digits, no binarization, discretized logistic",
  )
  config.model.likelihood = "custom_likelihood"
  assert protocol_of(config).title == "mnist_digits, no binarization, custom likelihood"
  with config.unlocked():
    del config.model.likelihood
  assert protocol_of(config) == grey
