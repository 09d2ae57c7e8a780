"""Two processes with two devices each train as one run; a signal to either of them stops both."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny
from command import assert_mistake, call, run

from latentjax.cli import train
from latentjax.config.serialization import read_config_json
from latentjax.training.experiment import create_experiment
from latentjax.workdir.checkpoints import Checkpointer

ROOT = Path(__file__).resolve().parents[2]
CHANGES = {"data.placement": "host", "train.steps_per_call": 2, "eval.nll_samples": 2, "train.epochs": 100_000}
TINY = tiny.flags("vae", CHANGES)
FIRST = ["--num_processes=2", "--process_id=0", "--workdir=w"]


def start(port: int, process: int, workdir: Path) -> subprocess.Popen:
  flags = [f"--coordinator=localhost:{port}", "--num_processes=2", f"--process_id={process}", f"--workdir={workdir}"]
  return subprocess.Popen(
    [sys.executable, str(ROOT / "main.py"), *TINY, *flags],
    env=os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2"},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def lines(workdir: Path) -> list[dict]:
  return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_two_processes_match_one_and_stop_together(tiny_cache, tmp_path):
  """The second is stopped; one process with one device resumes, and ends with the numbers of a run of its own."""
  together, alone = tmp_path / "together", tmp_path / "alone"
  with socket.socket() as free:
    free.bind(("localhost", 0))
    port = free.getsockname()[1]
  processes = [start(port, index, together) for index in range(2)]
  deadline = time.monotonic() + 200
  while not (together / "checkpoints" / "6").exists() and time.monotonic() < deadline:
    assert [process.poll() for process in processes] == [None, None], processes[0].communicate()
    time.sleep(0.05)
  processes[1].send_signal(signal.SIGTERM)
  outputs = [process.communicate(timeout=120) for process in processes]
  assert [process.returncode for process in processes] == [143, 143], outputs
  assert "stopped; resume with: " in outputs[0][1]  # in an epoch or right after it
  for words in ("on 4 x cpu", "epoch   1/"):
    assert words in outputs[0][0]
    assert words not in outputs[1][0]  # not empty: Gloo reports there from several threads
  assert len(list((together / "tensorboard").iterdir())) == 1  # every writer would have a file of its own

  config = read_config_json(together / "config.json")
  config.train.epochs = len(lines(together)) + 1
  for workdir in (alone, together):
    train.run(config, workdir)
  for one, other in zip(lines(alone), lines(together), strict=True):
    for split in ("train", "validation"):
      assert other[split] == pytest.approx(one[split], rel=1e-4, abs=1e-3)
  experiment = create_experiment(config)
  template = experiment.train_fns.init(experiment.keys.init)
  states = [
    Checkpointer(workdir / "checkpoints", read_only=True).restore(3 * config.train.epochs, template)
    for workdir in (alone, together)
  ]
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), *[state.params for state in states])


@pytest.mark.parametrize(
  ("flags", "words"),
  [
    (FIRST, "need --coordinator=HOST:PORT"),
    ([*FIRST, "--coordinator=host"], "need --coordinator=HOST:PORT"),
    (["--coordinator=auto"], "need the same --workdir"),
    (["--coordinator=auto", "--mode=sample", "--workdir=w"], "`latentjax sample` runs in one process"),
    (["--num_processes=2", "--mode=compare", "--workdirs=a,b"], "`latentjax compare` runs in one process"),
    ([*FIRST, "--coordinator=localhost:abc"], "must be a number from 1 to 65535, not 'abc'"),
    ([*FIRST, "--coordinator=localhost:99999"], "must be a number from 1 to 65535, not '99999'"),
    ([*FIRST, "--coordinator=localhost:TAKEN"], "(Address already in use). Choose another port."),
  ],
)
def test_wrong_flags_of_processes_are_one_line(tmp_path, flags, words):
  with socket.create_server(("", 0)) as taken:
    flags = [flag.replace("TAKEN", str(taken.getsockname()[1])) for flag in flags]
    config = [] if "--mode=compare" in flags else TINY
    assert_mistake(call(*config, *flags, cwd=tmp_path), words)
  assert list(tmp_path.iterdir()) == []


def test_no_cluster_is_one_line(tmp_path):
  assert_mistake(run(*TINY, "--coordinator=auto", "--workdir=w", cwd=tmp_path), "finds no cluster here")
  assert list(tmp_path.iterdir()) == []
