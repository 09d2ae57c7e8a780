"""Metrics of several seeds: mean, standard deviation, and each seed's own."""

import numpy as np
import pytest

from latentjax.workdir.protocol import aggregate_seeds, finite_metrics

SEEDS = {
  4: {
    "test": {"elbo": -90.0, "nll": 85.0, "nll_stderr": None, "nll_samples": 10, "kl_per_group": [1.0, 2.0]},
    "epoch": 3,
  },
  5: {
    "test": {"elbo": -91.0, "nll": 84.0, "nll_stderr": 0.2, "nll_samples": 10, "kl_per_group": [1.5, 2.0]},
    "epoch": 4,
  },
  6: {
    "test": {"elbo": -95.0, "nll": 83.0, "nll_stderr": 0.3, "nll_samples": 10, "kl_per_group": [2.0, 5.0]},
    "epoch": 6,
  },
}


def test_one_seed_is_returned_unchanged():
  assert aggregate_seeds({4: SEEDS[4]}) is SEEDS[4]


def test_a_number_that_is_not_finite_is_named_and_has_no_mean(capsys):
  broken = SEEDS[5] | {"test": SEEDS[5]["test"] | {"nll": float("inf"), "kl_per_group": [float("nan"), 2.0]}}
  test = finite_metrics({"test": broken["test"]}, " for seed 5")
  assert "infinite for seed 5, written as null: test nll, test kl_per_group. Try a lower" in capsys.readouterr().out
  line = aggregate_seeds(SEEDS | {5: broken | test})
  assert (line["test"]["elbo"], line["test"]["nll"], line["test"]["kl_per_group"]) == (-92.0, None, [None, 3.0])
  assert (line["std"]["test"]["nll"], line["std"]["test"]["kl_per_group"][0]) == (None, None)


def test_mean_and_standard_deviation_over_seeds():
  line = aggregate_seeds(SEEDS)
  assert line["seeds"] == {"4": SEEDS[4], "5": SEEDS[5], "6": SEEDS[6]}
  assert line["epoch"] == pytest.approx(13 / 3)
  test, std = line["test"], line["std"]["test"]
  assert (test["elbo"], test["nll"], test["nll_stderr"], test["nll_samples"]) == (-92.0, 84.0, None, 10)
  assert isinstance(test["nll_samples"], int)
  assert test["kl_per_group"] == [1.5, 3.0]
  assert std.keys() == {"elbo", "nll", "kl_per_group"}  # of metrics, not of settings
  assert std["elbo"] == pytest.approx(np.std([90, 91, 95], ddof=1))
  assert std["kl_per_group"] == pytest.approx([0.5, np.sqrt(3)])
