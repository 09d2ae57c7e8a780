"""Every config and variant resolves, is valid, survives JSON and trains a tiny step; invalid ones are refused."""

import importlib
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from latentjax import models
from latentjax.cli.reference import markdown_page
from latentjax.config.schema import NON_IDENTITY_KEYS, check_config, check_keys, check_values, differences, flatten
from latentjax.config.serialization import read_config_json
from latentjax.runtime.errors import RunError, UsageError
from latentjax.runtime.fileio import dump_json
from latentjax.training.compile import create_train_fns

VARIANTS = [
  ("conv_ladder", "demo"),
  ("conv_ladder", "default"),
  ("conv_ladder", "photos"),
  ("conv_ladder", "svhn"),
  ("conv_ladder", "cifar"),
  ("draw", "demo"),
  ("draw", "base"),
  ("draw", "wide"),
  ("draw", "filterbank"),
  ("draw", "deep"),
  ("draw", "paper"),
  ("draw", "two_digits"),
  ("draw", "two_digits_demo"),
  ("draw", "colour"),
  ("draw", "svhn"),
  ("draw", "cifar"),
  ("ladder_vae", "demo"),
  ("ladder_vae", "default"),
  ("ladder_vae", "bottom_up"),
  ("ladder_vae", "paper"),
  ("ladder_vae", "dense"),
  ("vae", "demo"),
  ("vae", "default"),
  ("vae", "residual"),
]
# Made small, the other variants compile to one of these.
TRAINED = [
  ("conv_ladder", "demo"),
  ("conv_ladder", "photos"),
  ("draw", "demo"),
  ("draw", "base"),
  ("draw", "deep"),
  ("draw", "colour"),
  ("ladder_vae", "demo"),
  ("ladder_vae", "bottom_up"),
  ("ladder_vae", "paper"),
  ("ladder_vae", "dense"),
  ("vae", "demo"),
  ("vae", "residual"),
]


def get_config(file: str, variant: str):
  return importlib.import_module(f"configs.{file}").get_config(variant)


def shrunk(file: str, variant: str):
  """The same experiment with every size made tiny, for compile time."""
  config = get_config(file, variant)
  small = {"num_steps": 2, "hidden_dim": 6, "hidden_dims": (6, 5), "latent_dim": 3, "read_size": 2, "write_size": 3}
  if config.model.name == "ladder_vae":
    small |= {"hidden_dims": (6, 5, 4), "latent_dims": (3, 2, 2)}
  if config.model.name == "conv_ladder":
    small["levels"] = "1:1x4z3 7:1x3z2"
  config.model.update({key: value for key, value in small.items() if key in config.model})
  config.train.batch_size = 4
  return config


@pytest.mark.parametrize(("file", "variant"), VARIANTS)
def test_every_variant_is_possible(file, variant):
  config = get_config(file, variant)
  check_config(config)
  models.check_model(config.model)
  model = models.create_model(config.model, (32, 32, 3) if config.data.binarization == "none" else (28, 28, 1))
  state = jax.eval_shape(create_train_fns(config, model, num_images=1000).init, jax.random.key(0))
  assert state.params


@pytest.mark.parametrize(("file", "variant"), TRAINED)
def test_every_kind_trains_a_step(file, variant):
  config = shrunk(file, variant)
  model = models.create_model(config.model, (7, 6, 1))
  steps = create_train_fns(config, model, num_images=8)
  images = np.random.default_rng(0).integers(0, 256, (8, 7, 6, 1), np.uint8)
  state = steps.init(jax.random.key(0))
  before = jax.device_get(state.params)
  state, metrics = steps.train(state, images, steps.order(jax.random.key(1), 0), jax.random.key(2), 2)
  assert int(state.step) == int(metrics.steps) == 2
  assert all(np.isfinite(value) for value in metrics.mean().values())
  moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), before, jax.device_get(state.params))
  assert all(distance > 0 for distance in jax.tree.leaves(moved)), moved


@pytest.mark.parametrize(("file", "variant"), VARIANTS)
def test_every_variant_survives_json(file, variant, tmp_path):
  config = get_config(file, variant)
  path = tmp_path / "config.json"
  path.write_text(dump_json(config.to_dict()))
  assert read_config_json(path).to_dict() == config.to_dict()


@pytest.mark.parametrize("file", models.MODELS)
def test_the_variants_are_those_of_the_file(file):
  assert {variant for name, variant in VARIANTS if name == file} == set(
    importlib.import_module(f"configs.{file}").VARIANTS
  )


@pytest.mark.parametrize("name", models.MODELS)
def test_every_key_has_a_valid_default_and_help(name):
  keys = models.config_keys(name)
  assert flatten(models.default_config(name).to_dict()) == {key: spec.default for key, spec in keys.items()}
  for key, spec in keys.items():
    assert spec.help, key
  check_values({key: spec.default for key, spec in keys.items()}, keys)


def test_the_reference_page_is_up_to_date():
  page = Path(__file__).resolve().parents[2] / "docs" / "config_keys.md"
  assert page.read_text(encoding="utf-8") == markdown_page(), "python -m latentjax.cli.reference > docs/config_keys.md"


def test_aliases_are_no_keys():
  """An alias that is the last part of another key would never be suggested."""
  keys = {key: spec for name in models.MODELS for key, spec in models.config_keys(name).items()}
  leaves = {key.rpartition(".")[2] for key in keys}
  aliases = {alias for spec in keys.values() for alias in spec.aliases}
  assert aliases & leaves == set()


def test_paper_settings():
  """The table of Gregor et al. 2015 for MNIST generation."""
  config = get_config("draw", "paper")
  model = config.model
  assert (model.num_steps, model.hidden_dim, model.latent_dim, model.read_size, model.write_size) == (
    64,
    256,
    100,
    2,
    5,
  )
  assert (config.data.name, config.data.binarization) == ("binarized_mnist", "static")


def test_unknown_variant_lists_the_choices():
  with pytest.raises(
    UsageError,
    match="Choose one of demo, base, wide, filterbank, deep, paper, two_digits, two_digits_demo, colour, svhn, cifar",
  ):
    get_config("draw", "nope")


@pytest.mark.parametrize(
  ("key", "value"),
  [
    ("model.num_steps", 0),
    ("data.name", ""),
    ("train.batch_size", 0),
    ("train.epochs", 0),
    ("train.num_seeds", 0),
    ("train.learning_rate", -1.0),
    ("train.learning_rate", float("nan")),
    ("train.learning_rate", float("inf")),
    ("train.ema_decay", 1.0),
    ("train.kl_warmup_epochs", -1.0),
    ("train.kl_warmup_epochs", 1e8),
    ("train.iwae_start_epoch", 10**8),
    ("model.attention", "gauss"),
    ("data.binarization", "sometimes"),
    ("model.init_log_stride", float("nan")),
    ("seed", -1),
    ("data.name", "bilder_\udce4"),  # bytes that are not UTF-8
  ],
)
def test_impossible_values_are_refused(key, value):
  config = get_config("draw", "demo")
  config.update_from_flattened_dict({key: value})
  check = (lambda: models.check_model(config.model)) if key.startswith("model.") else (lambda: check_config(config))
  with pytest.raises(UsageError, match=key):
    check()


@pytest.mark.parametrize(
  "values",
  [
    {"train.decay_start": 5, "train.decay_end": 4},
    {"train.iwae_samples": 2, "train.free_bits": 0.5},
    {"seed": 2**32 - 1, "train.num_seeds": 2},
    {"model.likelihood": "discretized_logistic"},
    {"model.likelihood": "discretized_logistic", "data.binarization": "static"},
    {"model.likelihood": "logistic_mixture", "data.binarization": "static"},
  ],
)
def test_values_that_contradict_each_other_are_refused(values):
  config = get_config("draw", "demo")
  config.update_from_flattened_dict(values)
  with pytest.raises(UsageError):
    check_config(config)


def test_a_likelihood_that_is_none_is_refused():
  config = get_config("vae", "demo")
  config.model.likelihood = "gaussian"
  with pytest.raises(
    UsageError, match=r"likelihood must be one of bernoulli, discretized_logistic, logistic_mixture, not 'gaussian'"
  ):
    models.check_model(config.model)


@pytest.mark.parametrize(
  ("key", "value"), [("model.num_steps", 10.0), ("train.epochs", 2.0), ("train.early_stopping_patience", True)]
)
def test_what_counts_is_whole(key, value):
  """As in a config file that is not bound to types."""
  tree, (section, name) = get_config("draw", "demo").to_dict(), key.split(".")
  tree[section][name] = value
  config = ConfigDict(tree)
  check = (lambda: models.check_model(config.model)) if key.startswith("model.") else (lambda: check_config(config))
  with pytest.raises(UsageError, match=rf"{key} must be a whole number.*, not {value}"):
    check()


def test_hidden_dims_must_be_widths():
  config = get_config("vae", "demo")
  for widths in ((), (0,), (1.5,)):
    config.model.hidden_dims = widths
    with pytest.raises(UsageError, match="hidden_dims"):
      models.check_model(config.model)


def test_an_unknown_key_names_the_nearest():
  config = get_config("draw", "demo")
  assert "'train.epochs'" in models.unknown_key(config, ["trian.epochs"])
  assert "'train.learning_rate'" in models.unknown_key(config, ["seed", "learning_rate"])
  assert "'benchmark.batch_sizes'" in models.unknown_key(config, ["benchmark.batch_size"])
  assert models.unknown_key(config, ["train.epochs", "train"]).startswith("train is a section")
  assert models.unknown_key(config, ["train.epochs", "seed"]) is None


RENAMED = {
  "train.importance_samples": "train.iwae_samples",
  "train.importance_start": "train.iwae_start_epoch",
  "train.pictures_every": "train.log_images_every",
  "train.patience": "train.early_stopping_patience",
  "compile_cache": "compilation_cache",
  "model.write_gain": "model.init_write_gain",
  "model.variance_bias": "model.init_log_variance",
  "model.stride_bias": "model.init_log_stride",
}


@pytest.mark.parametrize("old", RENAMED)
def test_an_old_name_is_one_line_that_names_the_new_one(old):
  tree = get_config("draw", "demo").to_dict()
  assert models.unknown_key(ConfigDict(tree), [old]) == (
    f"Unknown config key {old!r}. Did you mean {RENAMED[old]!r}? --help lists all keys."
  )
  *sections, leaf = old.split(".")
  (tree[sections[0]] if sections else tree)[leaf] = 1
  config = ConfigDict(tree)
  check = (lambda: models.check_model(config.model)) if old.startswith("model.") else (lambda: check_keys(config))
  with pytest.raises(UsageError, match=f"{old}.*Did you mean '?{RENAMED[old]}'?\\?"):
    check()


def test_only_how_long_and_what_to_show_may_differ():
  saved = get_config("draw", "demo")
  asked = saved.copy_and_resolve_references()
  asked.train.epochs += 1
  asked.eval.nll_samples += 1
  asked.sample.num_images += 1
  assert differences(saved, asked, NON_IDENTITY_KEYS) == []
  asked.model.unroll = 3
  assert differences(saved, asked, (*NON_IDENTITY_KEYS, *models.performance_keys(asked.model))) == []
  saved.model.unroll = 3
  asked.model.hidden_dim = 7
  asked.seed = 3
  assert differences(saved, asked, NON_IDENTITY_KEYS) == ["model.hidden_dim: 256 -> 7", "seed: 0 -> 3"]


def test_keys_are_compared_by_their_parts():
  saved = get_config("draw", "demo")
  saved.evaluation = 1  # begins like the section `eval`
  asked = saved.copy_and_resolve_references()
  asked.evaluation = 2
  assert differences(saved, asked, NON_IDENTITY_KEYS) == ["evaluation: 1 -> 2"]


def test_a_cache_that_is_neither_on_nor_off_is_refused(tmp_path):
  path = tmp_path / "config.json"
  path.write_text(json.dumps(get_config("vae", "demo").to_dict() | {"compilation_cache": "off"}))
  with pytest.raises(RunError, match="compilation_cache must be True or False, not 'off'"):
    read_config_json(path)


def test_a_config_without_a_section_says_what_it_lacks(tmp_path):
  path = tmp_path / "config.json"
  tree = get_config("vae", "demo").to_dict()
  path.write_text(json.dumps({name: section for name, section in tree.items() if name != "eval"}))
  with pytest.raises(RunError, match=r"eval\.batch_size is missing"):
    read_config_json(path)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"train": {"epochs": "many"}}', '{"train": {"epochs": -3}}'])
def test_damaged_config_is_one_line(tmp_path, text):
  path = tmp_path / "config.json"
  path.write_text(text)
  with pytest.raises(RunError, match="is damaged"):
    read_config_json(path)


def test_a_key_that_is_missing_is_named(tmp_path):
  tree = get_config("vae", "default").to_dict()
  del tree["train"]["learning_rate"]
  path = tmp_path / "config.json"
  path.write_text(json.dumps(tree))
  with pytest.raises(RunError, match=r"train\.learning_rate is missing"):
    read_config_json(path)
