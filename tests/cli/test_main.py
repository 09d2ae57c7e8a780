"""The command line from flags to files, in this process; test_process.py has what takes a process."""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
from command import ROOT, assert_mistake, call, call_ok
from PIL import Image

from latentjax.cli import benchmark


def metrics(workdir: Path) -> list[dict]:
  """The lines of metrics.jsonl without their timings."""
  lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
  return [{key: line[key] for key in line if key not in ("images_per_second", "seconds")} for line in lines]


def numbers(workdir: Path) -> dict:
  results = json.loads((workdir / "results.json").read_text())
  return {split: results[split] for split in ("train", "validation", "test")}


def pixels(path: Path) -> np.ndarray:
  with Image.open(path) as picture:
    return np.asarray(picture)


@pytest.fixture(scope="module")
def trained(trained_run) -> Path:
  return trained_run("draw")


def test_train_leaves_everything_that_was_promised(trained):
  lines = metrics(trained)
  assert [line["epoch"] for line in lines] == [1, 2]
  assert lines[0].keys() == {"step", "epoch", "train", "validation", "beta", "learning_rate"}
  for split in ("train", "validation"):
    assert lines[0][split].keys() == {"loss", "elbo", "kl", "reconstruction"}

  results = json.loads((trained / "results.json").read_text())
  assert {"train", "validation", "test", "step", "parameters"} <= results.keys()
  test = results["test"]
  assert test["elbo"] == pytest.approx(-(test["kl"] + test["reconstruction"]))
  assert test["kl"] == pytest.approx(sum(test["kl_per_group"]))
  assert len(test["kl_per_group"]) == 3
  assert test["nll"] > 0 > test["elbo"]
  assert test["nll_samples"] == 3

  assert test["num_examples"] == 20
  assert test["nll_curve"][-1] == [3, test["nll"]]
  assert len(test["active_units"]) == 3

  for name in ("samples.png", "reconstructions.png", "loss.png", "interpolations.png", "traversals.png", "dream.png"):
    assert pixels(trained / name).std() > 0
  for name in ("drawing.gif", "dream.gif"):
    with Image.open(trained / name) as drawing:
      assert drawing.n_frames == 3  # one per step
  assert list((trained / "tensorboard").glob("events.*"))
  log = (trained / "train.log").read_text(encoding="utf-8")
  assert f"  {ROOT / 'main.py'} --workdir={trained} " in log
  assert "\nepoch   2/2  ELBO " in log
  assert len(list((trained / "checkpoints").iterdir())) == 2  # the two newest, one of them the best
  (origin,) = json.loads((trained / "config.json").read_text())["run"]
  assert origin["command"].startswith(f"{ROOT / 'main.py'} --workdir=")
  assert origin.keys() == {"command", "git", "python", "versions", "environment", "device", "dataset_sha256"}


def test_a_finished_run_is_left_alone(trained):
  before = (trained / "results.json").read_text()
  said = call_ok(f"--workdir={trained}")
  assert "nothing left to train" in said
  assert "without effect" not in said
  said = call_ok(f"--workdir={trained}", "--config.train.epochs=1", "--config.eval.nll_samples=9")
  assert "without effect on a finished run: eval.nll_samples: 3 -> 9; train.epochs: 2 -> 1\n" in said
  assert "resuming" not in said
  assert (trained / "results.json").read_text() == before


def test_evaluate_and_sample_need_only_the_workdir(trained, tmp_path):
  workdir = shutil.copytree(trained, tmp_path / "copy")
  for name in ("results.json", "samples.png", "reconstructions.png", "drawing.gif"):
    (workdir / name).unlink()
  call_ok("evaluate", "copy", cwd=tmp_path)
  assert numbers(workdir) == numbers(trained)
  quick = ["--config.eval.nll_samples=5", "--config.eval.num_examples=4"]
  said = call_ok("--mode=evaluate", f"--workdir={workdir}", *quick)
  assert "on the first 4 images" in said
  assert "nothing is written" in said
  assert numbers(workdir) == numbers(trained)
  more = ["--config.eval.nll_samples=500"]
  call_ok("--mode=evaluate", f"--workdir={workdir}", *more)
  assert numbers(workdir)["test"]["nll_samples"] == 500
  call_ok("sample", workdir)
  assert (workdir / "samples.png").read_bytes() == (trained / "samples.png").read_bytes()
  assert "there are no labels" in call_ok("--mode=encode", f"--workdir={workdir}", cwd=tmp_path)
  with np.load(workdir / "latents.npz") as arrays:
    assert arrays["test_elbo"].mean() == pytest.approx(numbers(workdir)["test"]["elbo"])
  call_ok("--mode=sample", f"--workdir={workdir}", "--config.seed=1")
  assert (workdir / "samples.png").read_bytes() != (trained / "samples.png").read_bytes()


@pytest.mark.parametrize("model", tiny.MODELS)
def test_resuming_equals_never_having_stopped(trained_run, tmp_path, model):
  """Also after what SIGKILL leaves between the log and the checkpoint.

  The ladder has the most to carry over: running statistics, recomputed before numbers and pictures.
  """
  whole, halves = trained_run(model), tmp_path / "halves"
  call_ok(f"--workdir={halves}", *tiny.flags(model, {"train.epochs": 1}))
  call_ok("--mode=evaluate", f"--workdir={halves}", "--config.eval.nll_samples=9")  # which training does not keep
  log = halves / "metrics.jsonl"
  line = json.loads(log.read_text())
  log.write_text(log.read_text() + json.dumps(line | {"epoch": 2, "step": 0}) + '\n{"step": 1')
  more = tiny.flags(model, {"train.epochs": 2})
  said = call_ok(f"--workdir={halves}", *more)
  assert "resuming after epoch 1" in said
  assert said.endswith(f"or explore it in a browser: python main.py explore {halves}\n")
  assert metrics(halves) == metrics(whole)
  assert numbers(halves) == numbers(whole)
  groups = {"vae": 1, "ladder_vae": 2, "conv_ladder": 2, "draw": 3}
  assert len(numbers(whole)["test"]["kl_per_group"]) == groups[model]
  assert (model in ("ladder_vae", "conv_ladder")) == (whole / "layers.png").exists()


def test_colour_images_of_another_size(tmp_path):
  generator = np.random.default_rng(0)
  splits = {"train": 40, "test": 10}
  np.savez(
    tmp_path / "colour.npz", **{k: generator.integers(0, 256, (n, 9, 7, 3), np.uint8) for k, n in splits.items()}
  )
  none = {"data.name": "colour", "data.binarization": "none", "train.epochs": 1}
  call_ok(f"--workdir={tmp_path / 'run'}", *tiny.flags("vae", none), LATENTJAX_CACHE_DIR=tmp_path)
  assert json.loads((tmp_path / "run" / "results.json").read_text())["test"]["elbo"] < 0
  assert pixels(tmp_path / "run" / "samples.png").shape[-1] == 3


def test_diverging_names_the_step_and_keeps_the_checkpoint(trained, tmp_path):
  broken = shutil.copytree(trained, tmp_path / "broken")
  config = json.loads((broken / "config.json").read_text())
  config["train"]["learning_rate"] = 1e30
  (broken / "config.json").write_text(json.dumps(config))
  kept = sorted(path.name for path in (broken / "checkpoints").iterdir())
  done = call(f"--workdir={broken}", "--config.train.epochs=3")
  assert done.returncode == 1
  kept_step = metrics(trained)[-1]["step"]
  assert f"at step {kept_step + 1};" in done.stderr
  assert f"the checkpoint of step {kept_step} is kept" in done.stderr
  assert "Traceback" not in done.stderr
  assert sorted(path.name for path in (broken / "checkpoints").iterdir()) == kept


def test_a_damaged_checkpoint_is_one_line(trained, tmp_path):
  workdir = shutil.copytree(trained, tmp_path / "damaged")
  for file in (workdir / "checkpoints").rglob("*"):
    if file.is_file() and "metrics" not in str(file):
      file.write_bytes(b"")
  done = call("--mode=evaluate", f"--workdir={workdir}")
  assert done.returncode == 1
  assert done.stderr.startswith("error: ")
  assert len(done.stderr.splitlines()) == 1


def change(workdir: Path, key: str, value: int | None) -> None:
  """Changes a number of the model in config.json by hand, or takes it away."""
  config = json.loads((workdir / "config.json").read_text())
  config["model"][key] = value
  if value is None:
    del config["model"][key]
  (workdir / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("mode", ["evaluate", "train"])
def test_a_config_changed_by_hand_is_one_line_that_names_an_array(trained, tmp_path, mode):
  workdir = shutil.copytree(trained, tmp_path / "changed")
  (workdir / "model.safetensors").unlink()
  change(workdir, "hidden_dim", 9)
  done = call(f"--mode={mode}", f"--workdir={workdir}", "--config.train.epochs=3")
  assert done.returncode == 1
  assert "does not fit the config: params." in done.stderr
  assert len(done.stderr.splitlines()) == 1
  change(workdir, "hidden_dim", None)
  done = call(f"--mode={mode}", f"--workdir={workdir}")
  assert done.returncode == 2
  assert "model.hidden_dim is missing" in done.stderr
  assert len(done.stderr.splitlines()) == 1


def test_a_cache_of_images_that_cannot_be_is_one_line(tmp_path):
  done = call(f"--workdir={tmp_path / 'run'}", "--config=vae", LATENTJAX_CACHE_DIR="/dev/null/x")
  assert_mistake(done, "error: Cannot cache decoded images in /dev/null/x", code=1)
  assert not (tmp_path / "run").exists()


SWEEP = """
from configs import vae

def get_config():
  config = vae.get_config()
  config.data.name = "tiny"
  config.train.batch_size = 16
  config.train.epochs = 1
  config.model.hidden_dims = (8,)
  config.eval.nll_samples = 2
  return config

def sweep():
  for seed in (0, 1):
    yield {"seed": seed}
  yield {"train.batch_size": 1000}
"""


def test_sweep_trains_every_run_once_and_ends_with_a_table(tmp_path):
  (tmp_path / "file.py").write_text(SWEEP)
  args = ["--mode=sweep", f"--config={tmp_path / 'file.py'}", "--config.sample.num_images=3"]
  done = call(*args, cwd=tmp_path)
  assert done.returncode == 1
  assert done.stderr == "error: 1 of 3 runs failed. The same command tries them again.\n"
  assert "failed: train.batch_size = 1000 is larger than the 48 training images" in done.stdout
  (workdir,) = (tmp_path / "runs").iterdir()
  assert sorted(path.name for path in workdir.iterdir()) == ["lock", "seed=0", "seed=1"]
  elbos = {seed: numbers(workdir / f"seed={seed}")["validation"]["elbo"] for seed in (0, 1)}
  table = done.stdout[done.stdout.index("vae, 3 runs") :]
  best, worst = sorted(elbos, key=elbos.get, reverse=True)
  assert table.index(f"seed={best}") < table.index(f"seed={worst}") < table.index("batch_size=1000")
  assert f"{elbos[best]:.2f}" in table

  args.append(f"--workdir={workdir.relative_to(tmp_path)}")
  again = call(*args, cwd=tmp_path)
  assert again.stdout.count("already finished") == 2
  assert again.stdout.endswith(table)
  done = call(*args, "--config.seed=3", cwd=tmp_path)
  assert (done.returncode, done.stdout) == (2, "")
  assert "--config.seed would be overridden by sweep()" in done.stderr


def measure_quickly(patch: pytest.MonkeyPatch) -> None:
  small = np.ones((64, 64), np.float32)
  patch.setattr(benchmark, "MIN_SECONDS", 0.001)
  patch.setattr(benchmark, "matmul_benchmark", lambda precision: (lambda: small @ small, 2 * 64**3))


def test_benchmark_needs_no_workdir(tmp_path, monkeypatch):
  """Nor the dataset; it leaves its numbers in a new directory."""
  measure_quickly(monkeypatch)
  monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
  sizes = ["--config.benchmark.batch_sizes=4,64", "--config.benchmark.measurements=20"]
  shown = call_ok("--mode=benchmark", *tiny.flags("vae", {"data.name": "mnist"}), *sizes, cwd=tmp_path)
  (file,) = tmp_path.glob("runs/benchmark-vae-demo-*/benchmark.json")
  results = json.loads(file.read_text())
  assert (results["phase"], results["precision"]) == ("train", "float32")
  assert [row["batch_size"] for row in results["rows"]] == [4, 64]
  for row in results["rows"]:
    assert row["step_time_ms_p90"] >= row["step_time_ms"] > 0
    assert row["images_per_second"] == pytest.approx(1e3 * row["batch_size"] / row["step_time_ms"])
    assert row["flops_per_second"] == pytest.approx(row["flops_per_image"] * row["images_per_second"])
    assert row["peak_memory_bytes"] >= row["temporary_memory_bytes"] > 0
    assert row["matmul_ratio"] > 0
  assert "images/s" in shown
  assert file.name in shown


def test_benchmark_leaves_a_run_as_it_was(trained, tmp_path, monkeypatch):
  """It takes the run's own config."""
  measure_quickly(monkeypatch)
  workdir = shutil.copytree(trained, tmp_path / "copy")
  config = (workdir / "config.json").read_text()
  before = {path.name for path in workdir.iterdir()}
  sampling = ["--config.benchmark.batch_sizes=3", "--config.benchmark.phase=sample"]
  call_ok("--mode=benchmark", f"--workdir={workdir}", *sampling)
  assert {path.name for path in workdir.iterdir()} == before | {"benchmark.json"}
  assert json.loads((workdir / "benchmark.json").read_text())["config"]["model"]["hidden_dim"] == 8
  assert (workdir / "config.json").read_text() == config


def test_show_prints_the_resolved_config():
  shown = json.loads(call_ok("show", "draw:paper", "--config.train.epochs=7"))
  assert shown["train"]["epochs"] == 7
  assert shown["model"]["num_steps"] == 64


BAD = {
  "--config.trian.epochs=3": "'train.epochs'",
  "--config.train.epochs=many": "train.epochs must be a whole number from 1 to 1000000, not 'many'",
  "--config=configs/draw.py:nope": "Choose one of demo, base, wide, filterbank, deep, paper",
  "--config=nothing": "no such file. Choose one of conv_ladder, draw, ladder_vae, vae, or write your own.",
  "--config=README.md": "--config=README.md: ",
  "--config=latentjax/runtime/errors.py": "get_config",
  "--config configs/vae.py --config.model.attention=none": "model.attention is a key of draw, and this config is",
  "--mode=dance": "train|sweep|benchmark|evaluate|sample|encode|explore|compare|export|show",
  "--colour=red": "Unknown flag --colour",
  "--learning_rate=1e-3": "Did you mean --config.train.learning_rate=1e-3?",
  "trian": "Unknown command 'trian'. Did you mean train?",
  "--config.model.name=vae --config.train.batch_size=16": "--config=vae --help lists all of its keys",
  "--config.model.read_size=29 --config.train.batch_size=16": "larger than the image (28 x 28 pixels)",
  "--config.train.batch_size=1000": "larger than the 48 training images",
  "--config.data.name=mnits": "Did you mean mnist",
  "sweep draw": "has no sweep()",
  "--mode=benchmark --config.benchmark.phase=dance": "one of train, eval, nll, sample",
  "--mode=benchmark --config.benchmark.batch_sizes=128,0": "batch_sizes must be one or more whole numbers",
  "--mode=benchmark --config.benchmark.num_seeds=1,-8": "num_seeds must be one or more whole numbers",
  "--mode=benchmark --config.benchmark.num_seeds=8 --config.benchmark.phase=nll": "'nll' measures one seed only",
  "--mode=benchmark --config.precision=half": "one of float32, tensorfloat32, bfloat16",
  "--mode=benchmark --workdir=TRAINED --config.model.hidden_dim=9": "model.hidden_dim: 8 -> 9",
  "--config.data.placement=cloud": "one of auto, device, host",
  "--mode=evaluate": "needs the --workdir",
  "--mode=explore": "needs the --workdir",
  "--mode=explore --workdir=EMPTY": "holds no run: check its name",
  "--mode=evaluate --workdir=EMPTY": "holds no run: check its name",
  "--workdir=EMPTY --config.train.epochs=3": "holds no run: check its name",
  "--mode=show --workdir=EMPTY": "holds no run: check its name",
  "--workdir=TRAINED --config.model.hidden_dim=9": "model.hidden_dim: 8 -> 9",
  "--mode=evaluate --workdir=TRAINED --config.train.batch_size=7": "train.batch_size: 16 -> 7",
}


@pytest.mark.parametrize("line", BAD)
def test_a_users_mistake_is_one_line_and_exit_code_2(line, trained, tmp_path):
  before = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
  args = line.replace("EMPTY", str(tmp_path)).replace("TRAINED", str(trained)).split()
  own = any(word in line for word in ("--workdir", "evaluate", "explore"))
  fresh = [] if own else [f"--workdir={tmp_path / 'new'}"]
  fresh += ["--config=draw"] if fresh and not re.search("--config[ =]|sweep", line) else []
  tiny = (
    []
    if any(name in line for name in ("data.name", "nothing", "nope", "README", "errors.py"))
    else ["--config.data.name=tiny"]
  )
  done = call(*args, *fresh, *tiny)
  assert_mistake(done, BAD[line])
  assert {path: path.stat().st_mtime_ns for path in trained.rglob("*")} == before
  assert list(tmp_path.iterdir()) == []


def test_a_workdir_that_cannot_be_written_is_exit_code_1(tmp_path):
  (tmp_path / "file").touch()
  done = call(f"--workdir={tmp_path / 'file' / 'run'}", *tiny.flags("draw"))
  assert_mistake(done, "Cannot write to", code=1)
