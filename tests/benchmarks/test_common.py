"""Configs, changes and arguments of the benchmarks; a mistake is one line."""

import argparse
import dataclasses

import pytest

from benchmarks.common import change_plan, load_config, output_file, positive
from latentjax.models.draw.plan import choose_plan


def test_changes_are_set_with_their_types():
  config = load_config("draw:base", ["model.num_steps=64", "model.remat=sqrt", "train.learning_rate=1e-4"])
  assert (config.model.num_steps, config.model.remat, config.train.learning_rate) == (64, "sqrt", 1e-4)
  assert config.model.attention == "none"


def test_without_a_variant_it_is_the_demo():
  assert load_config("vae").to_dict() == load_config("vae:demo").to_dict()


@pytest.mark.parametrize(
  ("name", "changes", "problem"),
  [
    ("drow:base", [], "no config 'drow:base'"),
    ("draw:bass", [], "Choose one of demo, base"),
    ("draw:base", ["model.latent_size=3"], "Did you mean 'model.latent_dim'"),
    ("draw:base", ["model.latent_dim=wide"], "latent_dim"),
    ("draw:base", ["model.latent_dim"], "latent_dim"),
    ("draw:base", ["model.remat=some"], "model.remat must be one of"),
  ],
)
def test_a_mistake_is_one_line(name, changes, problem):
  with pytest.raises(SystemExit) as caught:
    load_config(name, changes)
  assert problem in caught.value.code
  assert len(caught.value.code.splitlines()) == 1


def test_a_plan_is_changed_field_by_field():
  plan = choose_plan(0, "auto", "none", 10, "gpu")
  assert change_plan(plan, "") == plan
  changed = change_plan(plan, "unroll=2,weight_gradients=per_step,remat=sqrt,peel_last=True")
  assert changed == dataclasses.replace(plan, unroll=2, weight_gradients="per_step", remat="sqrt", peel_last=True)


@pytest.mark.parametrize(
  ("changes", "problem"),
  [
    ("layout=gpu", "'layout'.*.*fields of a plan are unroll, weight_gradients, remat, attention_impl"),
    ("attention_impl=tpu", "must be one of cpu, gpu"),
    ("remat=sqrt", "Drop one of the two"),
    ("unroll", "unroll must be at least 1"),
  ],
)
def test_an_impossible_plan_is_one_line(changes, problem):
  with pytest.raises(SystemExit, match=problem) as caught:
    change_plan(choose_plan(0, "auto", "none", 10, "gpu"), changes)
  assert len(caught.value.code.splitlines()) == 1


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many", ""])
def test_a_count_is_at_least_one(text):
  with pytest.raises(argparse.ArgumentTypeError, match="integer of at least 1"):
    positive(text)
  assert positive("12") == 12


def test_a_file_needs_its_directory(tmp_path):
  assert output_file(f"{tmp_path}/file").parent == tmp_path
  with pytest.raises(argparse.ArgumentTypeError, match="no directory"):
    output_file(f"{tmp_path}/none/file")
