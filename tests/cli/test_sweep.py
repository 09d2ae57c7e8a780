"""A sweep: which runs, under which names, and what becomes of those that fail."""

import importlib
import json

import pytest

from latentjax.cli import sweep, train
from latentjax.runtime.errors import Interrupted, RunError, UsageError
from latentjax.workdir import records


@pytest.fixture
def config():
  return importlib.import_module("configs.vae").get_config()


def pretend_to_train(config, workdir) -> None:
  """Leaves what a finished run leaves; a high learning rate diverges, as it would."""
  if config.train.learning_rate > 1:
    raise RunError("the loss became NaN")
  workdir.mkdir(parents=True)
  records.write_config(workdir, config, (28, 28, 1), {"dataset_sha256": "0"})
  bound = {"elbo": -100.0 - config.seed, "kl": 1.0, "reconstruction": 99.0 + config.seed}
  line = {"step": 1, "epoch": 1, "train": bound, "validation": bound, "seconds": 60.0, "images_per_second": 9.0}
  (workdir / "metrics.jsonl").write_text(json.dumps(line) + "\n")
  results = {
    "epochs_trained": 1,
    "epoch": 1,
    "train_minutes": 1.0,
    "parameters": 9,
    "train": bound,
    "validation": bound,
  }
  results["test"] = bound | {"nll": 90.0, "nll_samples": 5}
  (workdir / "results.json").write_text(json.dumps(results))
  for name in ("loss.png", "samples.png", "reconstructions.png"):
    (workdir / name).touch()


OVERRIDES = [
  {"seed": 2},
  {"train.learning_rate": 30.0},
  {"seed": 1, "train.beta": 4},
]


def test_failed_runs_are_reported_and_finished_ones_skipped(config, tmp_path, monkeypatch, capsys):
  config.train.epochs = 1
  monkeypatch.setattr(train, "run", pretend_to_train)
  with pytest.raises(RunError, match="1 of 3 runs failed"):
    sweep.run(config, OVERRIDES, tmp_path / "sweep")
  said = capsys.readouterr().out
  table = said[said.index("validation ELBO") :]
  order = ["seed=1,beta=4", "seed=2", "learning_rate=30.0"]
  places = [table.index(name) for name in order]
  assert places == sorted(places)
  assert said.count("the loss became NaN") == 2
  assert "the loss became NaN" in table, "again where it can be seen at the end"

  trained = []
  monkeypatch.setattr(train, "run", lambda *args: trained.append(args[1].name) or pretend_to_train(*args))
  with pytest.raises(RunError, match="1 of 3 runs failed"):
    sweep.run(config, [*OVERRIDES[:2], {"seed": 3}], tmp_path / "sweep")
  assert trained == ["learning_rate=30.0", "seed=3"]
  assert capsys.readouterr().out.count("already finished") == 1


@pytest.mark.parametrize(
  ("override", "said"),
  [
    ({"train.betta": 4}, "Unknown config key 'train.betta'. Did you mean 'train.beta'"),
    ({"train.epochs": 0}, "train.epochs must be a whole number from 1"),
    ({"train.epochs": "ten"}, "train.epochs must be a whole number from 1 .* not 'ten'"),
    ({"model.hidden_dims": 3}, "model.hidden_dims must be one or more whole numbers"),
    ({"train": 1}, "train is a section of the config"),
  ],
)
def test_nothing_is_trained_where_a_later_run_makes_no_config(config, tmp_path, monkeypatch, override, said):
  monkeypatch.setattr(train, "run", None)
  with pytest.raises(UsageError, match=f"sweep\\(\\) yields .*: {said}"):
    sweep.run(config, [{"seed": 2}, override], tmp_path / "sweep")
  assert not (tmp_path / "sweep").exists()


def test_a_run_that_takes_too_much_memory_is_one_line(config, tmp_path, monkeypatch, capfd):
  def full(config, workdir):
    raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 17179869184 bytes.")

  monkeypatch.setattr(train, "run", full)
  with pytest.raises(RunError, match="1 of 1 runs failed"):
    sweep.run(config, [{"seed": 1}], tmp_path)
  out, err = capfd.readouterr()
  assert "failed: Out of memory. Lower train.batch_size" in out
  assert err == ""


def test_a_stop_stops_the_sweep(config, tmp_path, monkeypatch):
  def stop(config, workdir):
    raise Interrupted(15)

  monkeypatch.setattr(train, "run", stop)
  with pytest.raises(Interrupted):
    sweep.run(config, [{"seed": 1}, {"seed": 2}], tmp_path)


@pytest.mark.parametrize(
  ("body", "message"),
  [
    ("import sys\n  sys.exit()", "SystemExit"),
    ("raise KeyError('x')", r"KeyError: 'x' \(.*own.py, line 3\)"),
    ("yield {3: 1}", r"yields \{3: 1\}. Yield dicts of values by config key"),
    ("yield 3", "yields 3. Yield dicts of values by config key"),
  ],
)
def test_what_is_wrong_in_sweep_is_one_line(tmp_path, body, message):
  path = tmp_path / "own.py"
  path.write_text(f"from configs import vae\ndef sweep():\n  {body}\n")
  with pytest.raises(UsageError, match=message):
    sweep.read_sweep(path, "own.py")


def test_numbers_of_numpy_may_be_yielded(config, tmp_path):
  path = tmp_path / "own.py"
  path.write_text(
    "import numpy as np\ndef sweep():\n  for rate in np.logspace(-3, -2, 2, dtype=np.float32):\n"
    "    yield {'seed': np.int64(1), 'train.learning_rate': rate, 'model.hidden_dims': np.array([8, 4])}\n"
  )
  overrides = sweep.read_sweep(path, "own.py")
  assert sweep.run_names(overrides)[0].startswith("seed=1,learning_rate=0.001")
  changed = sweep.apply_override(config, overrides[1])
  assert (changed.seed, changed.model.hidden_dims) == (1, (8, 4))
  assert type(changed.seed) is int
  assert type(changed.train.learning_rate) is float


def test_names_are_readable_and_each_run_has_one():
  overrides = [{"model.hidden_dims": (512, 256), "seed": 1}, {"train.learning_rate": 1e-3}, {}]
  assert sweep.run_names(overrides) == ["hidden_dims=512-256,seed=1", "learning_rate=0.001", "unchanged"]
  assert sweep.run_names([{"train.batch_size": 8, "eval.batch_size": 9}]) == ["train.batch_size=8,eval.batch_size=9"]
  assert sweep.run_names([{"data.name": "imagenet/64:1"}]) == ["name=imagenet-64-1"]
  with pytest.raises(UsageError, match="yields seed=1 2 times"):
    sweep.run_names([{"seed": 1}, {"seed": 1}])
  with pytest.raises(UsageError, match="nothing"):
    sweep.run_names([])


def test_a_section_is_no_key(config):
  with pytest.raises(UsageError, match="train is a section of the config"):
    sweep.apply_override(config, {"train": {"epochs": 2}})


def test_a_single_run_is_no_place_for_a_sweep(config, tmp_path):
  pretend_to_train(config, tmp_path / "run")
  with pytest.raises(UsageError, match="holds a single run"):
    sweep.run(config, [{"seed": 1}], tmp_path / "run")


def test_every_sweep_of_the_configs_can_be_run():
  module = importlib.import_module("configs.vae")
  overrides = list(module.sweep())
  assert len(sweep.run_names(overrides)) == 6
  for override in overrides:
    assert sweep.apply_override(module.get_config(), override).seed == override["seed"]
