"""main.py as a process: exit codes, signals, a full standard output, and variables that JAX reads as it is imported."""

import json
import signal
import subprocess
import sys
import time

import pytest
import tiny
from command import ROOT, assert_mistake, run, start


def test_neither_a_full_standard_output_nor_the_users_matplotlib_ends_a_training(tmp_path):
  """Unprintable output is in train.log; a command that only prints fails.

  The matplotlibrc needs TeX, the backend does not exist, and Matplotlib has no directory for its files.
  """
  (tmp_path / "matplotlibrc").write_text("text.usetex: True\nno such key\n")
  variables = {"MATPLOTLIBRC": tmp_path, "MPLBACKEND": "nowhere", "MPLCONFIGDIR": "/dev/null/none"}
  with open("/dev/full", "w") as full:
    flags = tiny.flags("vae", {"train.epochs": 1})
    done = run(f"--workdir={tmp_path / 'run'}", *flags, cwd=tmp_path, stdout=full, **variables)
    assert (done.returncode, done.stderr) == (0, "")
    show = run("--mode=show", stdout=full)
    assert (show.returncode, show.stderr) == (
      1,
      "error: Cannot write to standard output (No space left on device).\n",
    )
  assert json.loads((tmp_path / "run" / "results.json").read_text())["test"]["elbo"] < 0
  log = (tmp_path / "run" / "train.log").read_text(encoding="utf-8")
  assert "epoch   1/1" in log
  assert "Cannot draw" not in log
  assert (tmp_path / "run" / "loss.png").exists()


def test_a_cache_for_compiled_programs_that_cannot_be_is_no_news(tiny_cache, tmp_path):
  (tmp_path / "tiny.npz").symlink_to(tiny_cache / "tiny.npz")
  (tmp_path / "compiled").touch()
  flags = ["--dry_run", *tiny.flags("vae")]  # compiles, and no more
  done = run(*flags, LATENTJAX_CACHE_DIR=tmp_path, JAX_COMPILATION_CACHE_DIR=None)
  assert (done.returncode, done.stderr) == (0, "")


EARLY = """
import os, runpy, signal, sys
class Interrupt:
  def find_spec(self, name, *_):
    if name == "absl":
      os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
sys.argv = ["main.py"]
runpy.run_path("main.py", run_name="__main__")
"""


def test_ctrl_c_while_everything_is_imported_is_one_line():
  done = subprocess.run([sys.executable, "-c", EARLY], cwd=ROOT, capture_output=True, text=True, timeout=60)
  assert (done.returncode, done.stdout, done.stderr) == (130, "", "stopped during startup\n")


@pytest.mark.parametrize(
  ("variables", "message"),
  [
    ({"JAX_PLATFORMS": "foo"}, "error: JAX_PLATFORMS=foo: Unable to initialize backend 'foo'"),
    ({"JAX_DEFAULT_MATMUL_PRECISION": "foo"}, "error: JAX cannot start: Invalid value"),
  ],
)
def test_a_variable_that_makes_no_sense_is_one_line(tmp_path, variables, message):
  done = run(f"--workdir={tmp_path / 'run'}", "--config=vae", **variables)
  assert_mistake(done, message)
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("number", "seconds"), [(signal.SIGTERM, 0.3), (signal.SIGINT, 2.5)])
def test_a_signal_while_the_step_compiles_ends_the_run_in_one_line(tmp_path, number, seconds):
  """Nothing is lost there, and an exception in JAX's midst could be lost itself, or crash the process."""
  flags = ["--config.data.name=tiny", "--config.train.batch_size=16", "--config.compilation_cache=False"]
  variables = {"JAX_ENABLE_COMPILATION_CACHE": "false", "JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}
  process = start(*flags, cwd=tmp_path, **variables)  # the demo's model: one that takes seconds to compile
  while not process.stdout.readline().startswith("jax "):  # the last line before it compiles
    assert process.poll() is None
  time.sleep(seconds)
  process.send_signal(number)
  _, stderr = process.communicate(timeout=120)
  assert process.returncode == 128 + number
  assert stderr.startswith("stopped; resume with: ")
  assert " --config=draw:demo --workdir=runs/draw-demo-" in stderr  # which has no config.json yet
  assert stderr.count("\n") == 1
