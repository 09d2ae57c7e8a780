"""Overrides on the command line, and the messages about mistyped ones."""

import pytest

from latentjax.cli import overrides
from latentjax.cli.main import define_flags
from latentjax.config import files
from latentjax.runtime.errors import UsageError


def changed(*words: str, config: str = "vae"):
  """Returns the config after the overrides, and the changed keys."""
  config = files.load_config(config).config
  return config, overrides.apply_overrides(config, overrides.split_words(words)[0], list(define_flags()))


def test_the_last_of_two_values_counts_for_tuples_too():
  for first, last in (
    (["--config.model.hidden_dims=(8,8)"], ["--config.model.hidden_dims=(16,)"]),
    (["--config.model.hidden_dims", "(8,8)"], ["-config.model.hidden_dims", "16"]),
  ):
    config, typed = changed(*first, "--config.train.epochs=1", *last, "--config.train.epochs=2")
    assert (config.model.hidden_dims, config.train.epochs) == ((16,), 2)
    assert typed == {"model.hidden_dims", "train.epochs"}


def test_booleans_need_no_value():
  assert changed("--noconfig.compilation_cache")[0].compilation_cache is False
  assert changed("--config.compilation_cache=False", "--config.compilation_cache")[0].compilation_cache is True


@pytest.mark.parametrize(
  ("word", "near"),
  [
    ("--config.lr=1", "'train.learning_rate'"),
    ("--config.optim.lr=1", "'train.learning_rate'"),
    ("--config.batch_size=1", "'train.batch_size'"),
    ("--config.z=1", "'model.latent_dim'"),
    ("--config.dataset=x", "'data.name'"),
    ("--config.num_epochs=1", "'train.epochs'"),
    ("--config.iwae=1", "'train.iwae_samples'"),
    ("--config.train.patience=3", "'train.early_stopping_patience'"),
    ("--config.train.decay_start=0.5", "train.decay_start must be a whole number from 0 to 1000000, not '0.5'"),
    ("--config.trian.epochs=1", "'train.epochs'"),
    ("--config.traln.learnin_rate=1", "'train.learning_rate'"),
    ("--config.model.num_steps=3", "model.num_steps is a key of draw, and this config is of vae"),
    ("--config.read_size=3", "model.read_size is a key of draw, and"),
    ("--config.model.mlp_depth=3", "model.mlp_depth is a key of ladder_vae, and"),
    ("--config.model.batch_size=3", "'train.batch_size'"),
    ("--config.train.num_steps=3", "Unknown config key 'train.num_steps'. model.num_steps is a key of draw, and"),
    ("--learning_rate=1e-3", "--config.train.learning_rate=1e-3?"),
    ("--lr", "--config.train.learning_rate?"),
    ("--epochs=3", "--config.train.epochs=3?"),
    ("--work-dir=x", "--workdir=x?"),
    ("--config.train.epochs=many", "train.epochs must be a whole number from 1 to 1000000, not 'many'"),
    ("--config.train.learning_rate=fast", "train.learning_rate must be a finite number above 0, not 'fast'"),
    ("--config.compilation_cache=maybe", "compilation_cache must be True or False, not 'maybe'"),
    ("--config.model.hidden_dims=(8,", "model.hidden_dims must be one or more whole numbers"),
    ("--config.train.epochs", "train.epochs must be a whole number from 1 to 1000000, not ''"),
    ("--config.sample=3", "sample is a section of the config. Set one of its keys: sample.num_images."),
  ],
)
def test_a_slip_is_met_by_its_meaning(word, near):
  with pytest.raises(UsageError) as error:
    changed(word)
  assert near in str(error.value)
  assert "\n" not in str(error.value)
