"""A benchmark's config by its name: what is wrong with a name or a change is said in one line."""

import pytest

from benchmarks.named_config import named_config


def test_changes_are_set_with_their_types():
  config = named_config("draw:base", ["model.num_steps=64", "model.remat=sqrt", "train.learning_rate=1e-4"])
  assert (config.model.num_steps, config.model.remat, config.train.learning_rate) == (64, "sqrt", 1e-4)
  assert config.model.attention == "none"


def test_without_a_variant_it_is_the_demo():
  assert named_config("vae").to_dict() == named_config("vae:demo").to_dict()


@pytest.mark.parametrize(
  ("name", "changes", "problem"),
  [
    ("drow:base", [], "no config 'drow:base'"),
    ("draw:bass", [], "choose one of demo, base"),
    ("draw:base", ["model.latent_size=3"], "the nearest is 'model.latent_dim'"),
    ("draw:base", ["model.latent_dim=wide"], "latent_dim"),
    ("draw:base", ["model.latent_dim"], "latent_dim"),
    ("draw:base", ["model.remat=some"], "model.remat must be one of"),
  ],
)
def test_mistakes_are_named_in_one_line(name, changes, problem):
  with pytest.raises(SystemExit) as caught:
    named_config(name, changes)
  assert problem in caught.value.code
  assert len(caught.value.code.splitlines()) == 1
