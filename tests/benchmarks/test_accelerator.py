"""Measurements on an accelerator: order, time limit, resuming, interruption and failures, with a fake measurement."""

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from types import SimpleNamespace

import jax
import pytest

from benchmarks.accelerator import measurements, report
from benchmarks.accelerator.measurements import Measurement
from benchmarks.accelerator.session import Results, run_measurements

accelerator = importlib.import_module("benchmarks.accelerator.__main__")


def rows(*configs: str, min_seconds: float = 30.0) -> list[Measurement]:
  return [Measurement("steps", config, min_seconds=min_seconds) for config in configs]


def run(path, measurements, seconds: float, failing=(), again: bool = False) -> tuple[bool, list[str]]:
  """Runs fake measurements of 60 seconds; returns if nothing is left, and the configs that were measured."""
  clock, done = [seconds], []

  def measure(measurement):
    done.append(measurement.config)
    clock[0] -= 60
    if measurement.config in failing:
      raise RuntimeError("first line\nRESOURCE_EXHAUSTED")
    return {"config": measurement.config}

  return run_measurements(measurements, Results(path, again), measure, lambda: clock[0]), done


def statuses(path) -> dict[str, str]:
  return {line["config"]: line["status"] for line in Results(path).lines.values()}


def test_it_stops_at_the_time_limit_and_resumes(tmp_path):
  path = tmp_path / "results.jsonl"
  assert run(path, rows(*"abcd"), 130) == (False, ["a", "b"])  # 10 seconds are too few for another
  assert run(path, rows(*"abcd"), 600) == (True, ["c", "d"])
  assert run(path, rows(*"abcd"), 600) == (True, [])
  assert statuses(path) == dict.fromkeys("abcd", "measured")


def test_a_measurement_that_does_not_fit_is_left_out(tmp_path):
  path, table = tmp_path / "results.jsonl", [*rows("a"), *rows("b", min_seconds=400), *rows("c")]
  assert run(path, table, 150) == (False, ["a", "c"])
  assert run(path, table, 600) == (True, ["b"])


def test_a_failure_is_one_line_and_repeated_on_request_only(tmp_path):
  path = tmp_path / "results.jsonl"
  assert run(path, rows(*"ab"), 600, failing="a") == (True, ["a", "b"])
  assert Results(path).lines[rows("a")[0].name]["reason"] == "RuntimeError: RESOURCE_EXHAUSTED"
  assert run(path, rows(*"ab"), 600) == (True, [])
  assert run(path, rows(*"ab"), 600, again=True) == (True, ["a"])
  assert statuses(path) == {"a": "measured", "b": "measured"}


def test_half_a_line_of_a_killed_process_is_dropped(tmp_path):
  path = tmp_path / "results.jsonl"
  run(path, rows(*"ab"), 600)
  path.write_text(path.read_text()[:-10])
  assert run(path, rows(*"ab"), 600) == (True, ["b"])
  assert all(json.loads(line) for line in path.read_text().splitlines())


def test_a_measurement_in_which_the_process_dies_twice_has_failed(tmp_path):
  path = tmp_path / "results.jsonl"
  for _ in range(2):
    assert not Results(path).is_final(rows("a")[0].name)
    Results(path).start({"name": rows("a")[0].name, "config": "a"})
  assert run(path, rows("a"), 600) == (True, [])
  assert statuses(path) == {"a": "failed"}
  assert run(path, rows("a"), 600, again=True) == (True, ["a"])


SCRIPT = """
import sys, time
from pathlib import Path
from benchmarks.accelerator import session
results = session.Results(Path(sys.argv[1]))
watchdog = session.Watchdog(results, time.monotonic() + session.GRACE + float(sys.argv[2]))
results.start({"name": "a", "config": "a"})
if sys.argv[3] == "training": watchdog.poll = lambda: results.add("partial", result={"epochs": 3})
print("ready", flush=True)
while sys.argv[3] == "step": sum(range(1000))
time.sleep(1)
watchdog.poll = None
watchdog.thread.join()
"""


@pytest.mark.parametrize(
  ("seconds", "sent", "kind", "code"),
  [(1.0, None, "step", 0), (600.0, signal.SIGTERM, "step", 143), (600.0, signal.SIGINT, "training", 130)],
)
@pytest.mark.filterwarnings("ignore:os.fork")
def test_the_time_limit_and_signals_end_the_process(tmp_path, seconds, sent, kind, code):
  path = tmp_path / "results.jsonl"
  command = [sys.executable, "-c", SCRIPT, str(path), str(seconds), kind]
  with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": "."}) as process:
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.5)
    if sent:
      process.send_signal(sent)
    assert process.wait(timeout=60) == code
  line = Results(path).lines["a"]
  assert line["status"] == "stopped"
  assert line.get("result") == ({"epochs": 3} if kind == "training" else None)


def test_the_table_is_in_order_of_value():
  for rehearse in (False, True):
    table = measurements.list_measurements(rehearse)
    assert len({row.name for row in table}) == len(table)
    assert {row.part for row in table} == {*accelerator.PARTS}
    assert list(dict.fromkeys(row.part for row in table)) == list(accelerator.PARTS)
    assert [row.config for row in table[:4]] == list(measurements.CONFIGS)


def test_a_rehearsal_measures_a_step_and_trains_to_the_target(tmp_path):
  options = SimpleNamespace(out=tmp_path, rehearse=True)
  results, watchdog = Results(tmp_path / "results.jsonl"), SimpleNamespace(poll=None, ended=False)

  def watch():
    while not watchdog.ended:
      if watchdog.poll is not None and watchdog.poll() and callable(stop := signal.getsignal(signal.SIGTERM)):
        stop(signal.SIGTERM, None)
        break  # a second signal would not wait for the step
      time.sleep(0.05)

  thread = threading.Thread(target=watch)
  thread.start()
  assert measurements.check_machine(results, rehearse=True) is None
  table = measurements.list_measurements(rehearse=True)
  wanted = [table[0], next(row for row in table if row.part == "target")]
  try:
    measure = partial(measurements.measure, options=options, results=results, watchdog=watchdog)
    assert run_measurements(wanted, results, measure, lambda: 60)
  finally:
    watchdog.ended = True
    thread.join()
  assert [results.lines[row.name]["reason"] for row in wanted] == ["", ""]
  step, training = (results.lines[row.name]["result"] for row in wanted)
  assert step["step_time_ms"] > 0
  assert step["kernels_per_step"] > 0
  assert training["epoch"] == 1
  assert training["validation_elbo"] > training["target"] == -400
  report.write(tmp_path / "report.md", results.lines.values(), accelerator.PARTS, len(table))
  text = (tmp_path / "report.md").read_text()
  assert "these numbers mean nothing" in text
  assert f"| vae:default | 8 | 1 | float32 | {step['step_time_ms']:.3f} | 1.000 |" in text
  assert f"| draw:deep | 1 | {training['seconds']:,.1f} |" in text
  results.lines["machine"]["device_kind"] = "another"
  assert "Choose another directory" in measurements.check_machine(results, rehearse=True)


def test_the_report_shows_pytorch_and_failures(tmp_path):
  compared = Measurement("pytorch", "draw:base", variants=("eager", "graph"))
  result = {"times_ms": {"latentjax": [1.0, 2.0], "torch eager": [3.0, 4.0]}, "problems": {"torch graph": "no | GPU"}}
  machine = {"name": "machine", "rehearse": False, "device_kind": "a GPU", "result": {}}
  describe = {"part": "pytorch", "config": "draw:base", "batch_size": 128, "num_seeds": 1, "precision": "float32"}
  describe |= {"changes": (), "plan": ""}
  lines = [
    machine,
    describe | {"variants": compared.variants, "status": "measured", "reason": "", "result": result},
    describe | {"part": "steps", "variants": (), "status": "failed", "reason": "out of memory"},
  ]
  report.write(tmp_path / "report.md", lines, accelerator.PARTS, 9)
  text = (tmp_path / "report.md").read_text()
  assert "1 of 9 measurements are done and 1 failed." in text
  assert "| eager | 1.500 | 3.500 | 2.50 (2.00 to 3.00) |  |" in text
  assert "| graph | - | - | - | no \\| GPU |" in text
  assert "| failed: out of memory |" in text


def test_busy_time_is_the_union_of_all_kernels():
  kernels = [("a", 20.0, 21.0), ("b", 5.0, 12.0), ("c", 6.0, 7.0), ("a", 0.0, 10.0)]
  summary = measurements.summarize_kernels(kernels, steps=2)
  assert summary["kernels_per_step"] == 2.0
  assert summary["busy_ms"] == pytest.approx(6.5e-6)
  assert summary["slowest_us_per_step"]["a"] == pytest.approx(5.5e-3)


def test_kernels_are_those_of_the_first_gpu(monkeypatch):
  def plane(name, line, kernel):
    event = SimpleNamespace(name=kernel, start_ns=0.0, duration_ns=5.0)
    return SimpleNamespace(name=name, lines=[SimpleNamespace(name=line, events=[event])])

  host, second = plane("/host:CPU", "tf_XLAEigen", "dot"), plane("/device:GPU:1", "Stream #13", "other")
  planes = [host, second, plane("/device:GPU:0", "Stream #13(Kernel)", "gemm")]
  assert list(measurements.read_kernels(SimpleNamespace(planes=planes))) == [("gemm", 0.0, 5.0)]
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  with pytest.raises(ValueError, match="nothing of the device"):
    list(measurements.read_kernels(SimpleNamespace(planes=[host])))
