"""Execution plans: choices by backend and config, and invalid plans."""

import dataclasses

import pytest

from latentjax.models.draw.plan import choose_plan

CPU = choose_plan(0, "auto", "none", 10, "cpu")
GPU = choose_plan(0, "auto", "none", 10, "gpu")


def test_backends_differ_in_every_field_but_remat():
  assert dataclasses.astuple(CPU) == (1, "per_step", "none", "cpu", True, 16)
  assert dataclasses.astuple(GPU) == (10, "deferred", "none", "gpu", False, 64)
  assert choose_plan(0, "auto", "none", 10, "tpu") == GPU


@pytest.mark.parametrize("remat", ["step", "sqrt"])
def test_remat_disables_what_costs_memory(remat):
  """The attention implementation remains that of the backend."""
  assert choose_plan(0, "auto", remat, 10, "cpu") == dataclasses.replace(CPU, remat=remat)
  changed = {"remat": remat, "unroll": 1, "weight_gradients": "per_step", "peel_last": True}
  assert choose_plan(0, "auto", remat, 10, "gpu") == dataclasses.replace(GPU, **changed)


def test_config_overrides_the_backend():
  assert choose_plan(3, "deferred", "none", 10, "cpu") == dataclasses.replace(
    CPU, unroll=3, weight_gradients="deferred"
  )
  assert choose_plan(64, "per_step", "none", 10, "gpu") == dataclasses.replace(
    GPU, unroll=10, weight_gradients="per_step"
  )


@pytest.mark.parametrize(
  ("changes", "problem"),
  [
    ({"unroll": 0}, "unroll must be at least 1, not 0"),
    ({"weight_gradients": "auto"}, "one of per_step, deferred, not 'auto'"),
    ({"attention_impl": "tpu"}, "one of cpu, gpu, not 'tpu'"),
    ({"peel_last": "no"}, "one of True, False, not 'no'"),
    ({"weight_gradients": "deferred", "remat": "sqrt"}, "Drop one of the two"),
  ],
)
def test_invalid_plans_are_refused(changes, problem):
  with pytest.raises(ValueError, match=problem):
    dataclasses.replace(CPU, **changes)
