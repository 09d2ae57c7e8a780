"""A run of several seeds: each is the single run with its seed, and what stops the run changes none."""

import json
import re
import shutil
import signal
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny
from test_train import signal_in_call, signal_in_validation

from latentjax.cli import compare, evaluate, sample, train
from latentjax.inference.trained_model import load_first_seed
from latentjax.runtime.errors import Interrupted, RunError, UsageError
from latentjax.training import restore, results
from latentjax.training.experiment import create_experiment
from latentjax.workdir import weights
from latentjax.workdir.checkpoints import Checkpointer
from latentjax.workdir.run import Run

SEED = 4
TIMINGS = ("images_per_second", "seconds", "train_minutes", "evaluate_minutes")


def tiny_config(seed: int = SEED, num_seeds: int = 2):
  """Learns so fast that seeds 4 and 5 are at their best in different epochs."""
  train = {"steps_per_call": 1, "learning_rate": 0.03, "ema_decay": 0.0, "kl_warmup_epochs": 0.0, "epochs": 4}
  train |= {"num_seeds": num_seeds}
  changes = {"seed": seed, "model.latent_dim": 64, "eval.nll_samples": 2, "eval.batch_size": 100} | {
    f"train.{key}": value for key, value in train.items()
  }
  return tiny.create_config("vae", changes)


@pytest.fixture(scope="module")
def together(tmp_path_factory) -> Path:
  """A finished run of seeds 4 and 5; tests that change it copy it first."""
  workdir = tmp_path_factory.mktemp("runs") / "together"
  train.run(tiny_config(), workdir)
  return workdir


def outcome(workdir: Path) -> tuple[list[dict], dict]:
  """metrics.jsonl and results.json without their timings."""
  lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
  results = json.loads((workdir / "results.json").read_text())
  for tree in (*lines, results):
    for name in TIMINGS:
      tree.pop(name, None)
  return lines, results


def newest_bytes(workdir: Path) -> list[bytes]:
  experiment = create_experiment(tiny_config())
  checkpoints = Checkpointer(workdir / "checkpoints", read_only=True)
  state = checkpoints.restore(checkpoints.latest_step, experiment.train_fns.init(experiment.keys.init))
  return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state)]


def assert_close(actual, expected) -> None:
  """The same tree, its numbers within float tolerance."""
  assert jax.tree.structure(actual) == jax.tree.structure(expected)
  for number, other in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
    assert number == pytest.approx(other, rel=1e-4, abs=1e-4)


def test_each_seed_ends_as_the_single_run_with_it(together, tmp_path):
  """Its curve, its best epoch, and the numbers of that epoch's weights."""
  lines, results = outcome(together)
  assert [seed["epoch"] for seed in results["seeds"].values()] == [4, 3]
  for seed in (SEED, SEED + 1):
    alone = tmp_path / str(seed)
    train.run(tiny_config(seed, num_seeds=1), alone)
    single_lines, single = outcome(alone)
    own = results["seeds"][str(seed)]
    assert_close(own, {name: single[name] for name in own})
    for line, expected in zip(lines, single_lines, strict=True):
      own = line["seeds"][str(seed)]
      assert_close(own, {name: expected[name] for name in own})
      assert {line[name] == expected[name] for name in ("step", "epoch", "beta", "learning_rate")} == {True}
    assert results["parameters"] == single["parameters"]


def test_every_seed_has_a_file_of_its_own_best_epoch(together, tmp_path, monkeypatch, capsys):
  """Before the evaluation, which writes the same of a model without batch norm."""
  monkeypatch.setattr(results, "evaluate_and_write", lambda *args: None)
  workdir = tmp_path / "trained"
  train.run(tiny_config(), workdir)
  names = ["model-0.safetensors", "model-1.safetensors"]
  assert [weights.read_weights(workdir / name).step for name in names] == [12, 9]
  assert [(workdir / name).read_bytes() for name in names] == [(together / name).read_bytes() for name in names]
  assert not (workdir / "model.safetensors").exists()
  capsys.readouterr()
  load_first_seed(Run.open(workdir))
  assert capsys.readouterr().out == "Using seed 4, the first of 2.\n"


def test_what_stands_in_a_single_runs_place_is_the_mean(together):
  lines, results = outcome(together)
  for tree, split in ((lines[0], "train"), (lines[1], "validation"), (results, "test")):
    elbos = [seed[split]["elbo"] for seed in tree["seeds"].values()]
    assert tree[split]["elbo"] == pytest.approx(np.mean(elbos))
    assert tree["std"][split]["elbo"] == pytest.approx(np.std(elbos, ddof=1))
    assert elbos[0] != elbos[1]


def test_stopping_changes_nothing(together, tmp_path, capsys):
  """In mid-epoch, and during validation, which ends first."""
  workdir = tmp_path / "stopped"
  for interrupt, when, number in ((signal_in_call, 5, signal.SIGTERM), (signal_in_validation, 1, signal.SIGINT)):
    with pytest.MonkeyPatch.context() as patch:
      interrupt(patch, when, number)
      with pytest.raises(Interrupted):
        train.run(tiny_config(), workdir)
  train.run(tiny_config(), workdir)
  output = capsys.readouterr().out
  assert "resuming in epoch 2 of 4, after 2 of its " in output
  assert "resuming after epoch 2 of 4" in output
  assert outcome(workdir) == outcome(together)
  assert newest_bytes(workdir) == newest_bytes(together)


def test_other_modes_work_on_it(together, tmp_path, capsys):
  """Evaluated again it says the same; pictures are of the first seed; a comparison shows mean and deviation."""
  workdir = shutil.copytree(together, tmp_path / "copy")
  (workdir / "results.json").unlink()
  evaluate.run(tiny_config(), workdir)
  assert outcome(workdir) == outcome(together)
  (workdir / "samples.png").unlink()
  sample.run(tiny_config(), workdir)
  assert "Using seed 4, the first of 2." in capsys.readouterr().out
  assert (workdir / "samples.png").read_bytes() == (together / "samples.png").read_bytes()

  evaluate.run(tiny_config(seed=9), workdir)  # other noise, the same seeds
  results = outcome(workdir)[1]
  assert list(results["seeds"]) == ["4", "5"]
  compare.run([str(workdir)], tmp_path / "out")
  markdown = (tmp_path / "out" / "comparison.md").read_text()
  assert "| VAE, 2 seeds |" in markdown
  for name in ("elbo", "nll"):
    assert f"{results['test'][name]:.2f} ± {results['std']['test'][name]:.2f}" in markdown
  assert "standard deviation" in "".join(line for line in markdown.splitlines() if "several seeds" in line)


def test_another_number_of_seeds_is_another_experiment(together):
  with pytest.raises(UsageError, match=re.escape("train.num_seeds: 2 -> 3")):
    train.run(tiny_config(num_seeds=3), together)


def test_the_seed_that_diverges_is_named(tmp_path, monkeypatch):
  init = restore.restore_state

  def poisoned(*args):
    state, partial_epoch = init(*args)
    return state.replace(params=jax.tree.map(lambda x: x.at[1].set(np.nan), state.params)), partial_epoch

  monkeypatch.setattr(restore, "restore_state", poisoned)
  with pytest.raises(RunError, match=r"^The loss of seed 5 became NaN or infinite at step 0; no checkpoint"):
    train.run(tiny_config(), tmp_path / "run")
