"""A config makes a model, or says in one line why it cannot."""

import dataclasses
import importlib

import pytest

from latentjax import models
from latentjax.runtime.errors import UsageError


def model_config(file: str, variant: str = "demo"):
  return importlib.import_module(f"configs.{file}").get_config(variant).model


@pytest.mark.parametrize("file", sorted(models.MODELS))
def test_every_field_comes_from_the_config(file):
  config = model_config(file)
  model = models.create_model(config, (28, 28, 1))
  own = {field.name for field in dataclasses.fields(model)} - {"image_shape", "plan", "parent", "name"}
  assert own == set(config.keys()) - {"name"}
  assert all(getattr(model, key) == config[key] for key in own)


@pytest.mark.parametrize("key", ["read_size", "write_size"])
def test_a_window_larger_than_the_image_is_refused(key):
  config = model_config("draw")
  config.update({"read_size": 8, "write_size": 8})
  config[key] = 9
  with pytest.raises(UsageError, match=rf"model.{key} = 9 .* \(8 x 30 pixels\)"):
    models.create_model(config, (8, 30, 1))
  config.attention = "none"  # where nothing looks through windows, their size does not matter
  models.create_model(config, (8, 30, 1))


def test_a_value_of_another_model_is_refused():
  config = model_config("draw")
  config.name = "vae"
  with pytest.raises(UsageError, match=r"vae has no model\.attention\. Did you mean model\..*--config=vae --help"):
    models.create_model(config, (28, 28, 1))


@pytest.mark.parametrize("file", ["vae", "ladder_vae"])
def test_a_mixture_with_a_huge_dense_output_layer_is_refused(file):
  config = model_config(file)
  config.likelihood = "logistic_mixture"
  models.check_model(config)
  models.create_model(config, (28, 28, 1))
  with pytest.raises(UsageError, match=r"needs a dense output layer of [\d,]+ weights.* Use --config=conv_ladder, "):
    models.create_model(config, (64, 64, 3))


def test_a_mixture_on_the_canvas_of_draw_is_refused():
  config = model_config("draw")
  config.likelihood = "logistic_mixture"
  with pytest.raises(UsageError, match=r"one of bernoulli, discretized_logistic \(the canvas has one parameter per"):
    models.check_model(config)
