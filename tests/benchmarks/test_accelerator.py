"""The queue of the accelerator's measurements, with a runner that costs nothing: order, end of time, failures."""

import argparse
import importlib
import json
from itertools import pairwise
from types import SimpleNamespace

import jax
import pytest

from benchmarks.accelerator import process, step, trace, train
from benchmarks.accelerator.log import Log
from benchmarks.accelerator.plan import CONFIGS, FLAGS, PARTS, Place, plan
from benchmarks.accelerator.queue import HOPELESS, HopelessError, Measurement, Outcome, work_off
from benchmarks.accelerator.report import report
from benchmarks.accelerator.trace import busy_ns, summary

accelerator = importlib.import_module("benchmarks.accelerator.__main__")

MACHINE = {
  "device": "NVIDIA Test",
  "platform": "gpu",
  "devices": 1,
  "runtime": "CUDA 13",
  "nvidia_smi": {"name": "NVIDIA Test", "driver_version": "580"},
  "processor": "a processor",
  "cpu_cores": 2,
  "python": "3.12.1",
  "packages": {"jax": "0.11.2"},
  "environment": {"XLA_FLAGS": "--xla_gpu_x=1"},
}


class Runner:
  """Runs nothing: every measurement takes `seconds` of a clock of its own, or ends as `outcomes` say."""

  def __init__(self, minutes: float, seconds: float = 60.0, outcomes: dict[str, Outcome] | None = None):
    self.left, self.seconds, self.outcomes, self.partial_epoch = 60 * minutes, seconds, outcomes or {}, []

  def __call__(self, measurement: Measurement, seconds: float) -> Outcome:
    self.partial_epoch.append(measurement.name)
    needed = self.outcomes.get(measurement.name, Outcome(self.seconds, result={"name": measurement.name}))
    taken = min(needed.seconds, seconds)
    self.left -= taken
    return needed if taken == needed.seconds else Outcome(taken, ended=True)

  def work_off(self, queue, path, again: bool = False) -> bool:
    return work_off(queue, log_of(path, again=again), self, lambda: self.left)


def log_of(path, **options) -> Log:
  """A log whose first line is the machine's."""
  log = Log(path, **options)
  if not log.lines:
    log.add(Measurement("machine", "machine", (), 0.0, 1.0, {"rehearsal": False}), "measured", "", 1.0, MACHINE)
  return log


def queue(*names: str, least: float = 30.0, limit: float = 300.0) -> list[Measurement]:
  return [Measurement(name, "steps", (name,), least, limit) for name in names]


def statuses(path) -> dict[str, str]:
  return {line["name"]: line["status"] for line in Log(path).lines[1:]}


def test_the_queue_stops_in_time_and_goes_on(tmp_path):
  path, measurements = tmp_path / "results.jsonl", queue(*"abcd")
  first = Runner(minutes=2.2)
  assert not first.work_off(measurements, path)
  assert first.partial_epoch == ["a", "b"]  # 12 seconds are too few to begin another
  second = Runner(minutes=9)
  assert second.work_off(measurements, path)
  assert second.partial_epoch == ["c", "d"]
  third = Runner(minutes=9)
  assert third.work_off(measurements, path)
  assert not third.partial_epoch
  assert statuses(path) == dict.fromkeys("abcd", "measured")
  assert [line["result"]["name"] for line in Log(path).lines[1:]] == list("abcd")


def test_what_does_not_fit_is_passed_over_for_what_does(tmp_path):
  path, measurements = tmp_path / "results.jsonl", [*queue("a"), *queue("b", least=400.0, limit=500.0), *queue("c")]
  first = Runner(minutes=3)
  assert not first.work_off(measurements, path)
  assert first.partial_epoch == ["a", "c"]
  second = Runner(minutes=9)
  assert second.work_off(measurements, path)
  assert second.partial_epoch == ["b"]


def test_what_the_end_of_time_stops_is_begun_again(tmp_path):
  path, measurements = tmp_path / "results.jsonl", queue(*"abc")
  assert not Runner(minutes=1.6).work_off(measurements, path)
  assert statuses(path) == {"a": "measured", "b": "stopped"}
  again = Runner(minutes=9)
  assert again.work_off(measurements, path)
  assert again.partial_epoch == ["b", "c"]


def test_a_failure_costs_its_own_row_only_and_is_not_repeated(tmp_path):
  path, measurements = tmp_path / "results.jsonl", queue(*"abc", limit=100)
  outcomes = {"a": Outcome(5, problem="out of memory", result={"half": 1}), "b": Outcome(1000)}
  assert Runner(minutes=9, outcomes=outcomes).work_off(measurements, path)
  _, a, b, c = Log(path).lines
  assert (a["status"], a["reason"], a["result"]) == ("failed", "out of memory", {"half": 1})
  assert (b["status"], b["reason"]) == ("failed", "took more than 100 s")
  assert c["status"] == "measured"
  later = Runner(minutes=9)
  assert later.work_off(measurements, path)
  assert not later.partial_epoch
  again = Runner(minutes=9)
  assert again.work_off(measurements, path, again=True)
  assert again.partial_epoch == ["a", "b"]


@pytest.mark.parametrize("measured", [False, True])
def test_a_machine_where_all_fails_is_given_up(tmp_path, measured):
  path, measurements = tmp_path / "results.jsonl", queue(*"abcdef")
  outcomes = {name: Outcome(5, problem="no ptxas") for name in ("bcdef" if measured else "abcdef")}
  runner = Runner(minutes=9, outcomes=outcomes)
  if measured:
    assert runner.work_off(measurements, path)
  else:
    with pytest.raises(HopelessError, match="no ptxas"):
      runner.work_off(measurements, path)
    assert len(runner.partial_epoch) == HOPELESS


def test_what_is_lacking_is_skipped_once_and_measured_when_it_is_there(tmp_path):
  path = tmp_path / "results.jsonl"
  (lacking,) = [Measurement("a", "peers", ("a",), 30.0, 300.0, lacks="PyTorch is not installed")]
  for _ in range(2):
    runner = Runner(minutes=9)
    assert runner.work_off([lacking], path)
    assert not runner.partial_epoch
  assert len(path.read_text().splitlines()) == 2
  assert Runner(minutes=9).work_off(queue("a"), path)
  assert statuses(path) == {"a": "measured"}


def test_what_became_of_a_measurement_is_said_also_where_others_have_lines_behind_it(tmp_path):
  path, said = tmp_path / "results.jsonl", []
  lacking = Measurement("a", "peers", ("a",), 30.0, 300.0, lacks="PyTorch is not installed")
  Runner(minutes=9).work_off([lacking, *queue("b")], path)
  log = Log(path, lambda line: said.append((line["name"], line["status"])))
  work_off(queue("a", "b"), log, Runner(minutes=9), lambda: 540.0)
  assert said == [("a", "measured")]


def test_a_rehearsal_trains_without_decoded_sets(tmp_path, monkeypatch):
  monkeypatch.setenv("LATENTJAX_CACHE_DIR", str(tmp_path))
  lacks = {
    rehearsal: [m.lacks for m in plan(Place("device", "cpu", tmp_path, rehearsal)) if m.part in ("target", "paper")]
    for rehearsal in (True, False)
  }
  assert lacks[True] == ["", ""]
  assert all(lacks[False])


def test_half_a_line_is_what_a_kill_leaves(tmp_path):
  path, measurements = tmp_path / "results.jsonl", queue(*"ab")
  Runner(minutes=9).work_off(measurements, path)
  path.write_text(path.read_text()[:-10])
  runner = Runner(minutes=9)
  assert runner.work_off(measurements, path)
  assert runner.partial_epoch == ["b"]
  assert [json.loads(line)["name"] for line in path.read_text().splitlines()] == ["machine", "a", "b"]


@pytest.mark.parametrize(("rehearsal", "platform"), [(False, "gpu"), (True, "cpu"), (False, "tpu")])
def test_the_plan_is_in_order_of_worth_and_every_name_is_a_file(tmp_path, rehearsal, platform):
  measurements = list(plan(Place("device", platform, tmp_path, rehearsal)))
  names = [measurement.name for measurement in measurements]
  assert len(set(names)) == len(names)
  assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") for name in names)
  parts = [measurement.part for measurement in measurements]
  order = [part for part, before in pairwise([*parts, ""]) if part != before]
  once = ["steps", "peers", "target", "seeds"]  # the first of each kind early
  assert order == [*once, "steps", "peers", "steps", "options", "seeds", "paper"]
  assert {*order} == {*PARTS}
  steps = [measurement.facts for measurement in measurements if measurement.part == "steps"]
  options = [measurement.facts["option"] for measurement in measurements if measurement.part == "options"]
  assert options[: len(FLAGS) + 2] == ["tensorfloat32", "bfloat16", *FLAGS]
  sizes = [8, 16, 32] if rehearsal else [128, 1024, 8192]
  for config in (*CONFIGS, "draw:paper"):
    assert [fact["batch_size"] for fact in steps if fact["config"] == config] == sizes
  assert all(measurement.least < measurement.limit for measurement in measurements)
  flags = [measurement for measurement in measurements if "XLA_FLAGS" in measurement.environment]
  assert len(flags) == 16
  assert all(bool(measurement.lacks) == (platform == "tpu") for measurement in flags)
  ways = {way for measurement in measurements for way in measurement.facts.get("ways", ())}
  assert ways == {"eager", "compile", *(["graph", "compiled-graph"] if platform == "gpu" else [])}


def test_the_report_has_a_row_for_everything_also_for_what_failed(tmp_path):
  place = Place("NVIDIA Test", "gpu", tmp_path, False)
  measurements = list(plan(place))
  a_step = {
    "step_time_ms": 0.5,
    "step_time_ms_p90": 0.75,
    "step_time_ms_per_seed": 0.5,
    "images_per_second": 256000.0,
    "matmul_ratio": 0.01,
    "flops_per_second": 1e12,
    "compile_seconds": 9.0,
    "peak_memory_bytes": 2**21,
    "peak_memory_bytes_per_seed": 2**21,
    "busy_ms": 0.25,
    "kernels_per_step": 550.0,
    "us_of_all": 260.0,
    "dearest": [{"kernel": "loop_fusion", "per_step": 10.0, "us_per_step": 130.0}],
  }
  turns = {"results": [{"config": "vae:default", "turns": {"latentjax": [1.0, 2.0], "torch eager": [3.0, 4.0]}}]}
  training = {
    "epochs": 12,
    "epoch_seconds": 5.0,
    "call_seconds": 20.0,
    "validation_elbo": -85.2,
    "best_validation_elbo": -85.2,
    "images_per_second": 1e5,
    "until": -85.3,
    "reached": True,
  }
  log = log_of(tmp_path / "results.jsonl")
  for measurement in measurements:
    part = measurement.part
    result = turns if "ways" in measurement.facts else training if part in ("target", "paper") else a_step
    log.add(measurement, "measured", "", 1.0, result)
  text = report(log.lines, len(measurements))
  rows = [line for line in text.splitlines() if line.startswith("| ")]
  assert len(rows) >= len(measurements)
  assert "| 0.500 | 256,000 | 50% | 550 | 1.00% | 1,000 | 9.0 | 2 |" in text
  assert "| `loop_fusion` | 10.0 | 130.00 | 50.0% |" in text
  assert "2.50 (2.00 to 3.00)" in text
  assert (
    "| graph | - | - | - | failed: it did not start: work/peers-torch-vae_default-128-1-graph-eager-float32.log" in text
  )
  assert "| draw:base | 12 | 5.0 | 20.0 | -85.20 | -85.20 | -85.30 | yes" in text
  assert "| 0.500 | 0.500 | 1.000 | 0.750 / 0.750 | 2 |" in text
  assert "; XLA_FLAGS=--xla_gpu_x=1." in text
  assert "0 are left" in text
  assert "rehearsal" not in text

  one = next(measurement for measurement in measurements if measurement.part == "peers")
  log.add(one, "failed", "graph did not start", 1.0, turns)  # what did start has its row all the same
  assert text.count("2.50 (2.00 to 3.00)") == report(log.lines, len(measurements)).count("2.50 (2.00 to 3.00)")

  first = measurements[0]
  log.add(first, "failed", "RESOURCE_EXHAUSTED: a | b", 1.0)
  text = report(log.lines, len(measurements))
  assert "failed: RESOURCE_EXHAUSTED: a \\| b |" in text
  assert "2 failed" in text


def test_busy_is_the_union_of_what_ran():
  kernels = [("a", 0.0, 10.0), ("b", 5.0, 12.0), ("c", 6.0, 7.0), ("a", 20.0, 21.0)]
  assert busy_ns(reversed(kernels)) == 13.0
  found = summary(kernels, steps=2)
  assert found["kernels_per_step"] == 2.0
  assert found["busy_ms"] == pytest.approx(6.5e-6)
  assert found["dearest"][0] == {"kernel": "a", "per_step": 1.0, "us_per_step": pytest.approx(5.5e-3)}
  assert found["us_of_all"] == pytest.approx(9.5e-3)
  with pytest.raises(ValueError, match="no kernels"):
    summary([], steps=2)


def command(tmp_path, part: str) -> list[str]:
  """Of the first measurement of a part of a rehearsal on this device, without its module's name."""
  place = Place(jax.devices()[0].device_kind, "cpu", tmp_path, True)
  module, *arguments = next(measurement for measurement in plan(place) if measurement.part == part).command
  return [module, *arguments, f"--json={tmp_path / 'result.json'}"]


def test_a_step_is_timed_and_traced(tmp_path, monkeypatch):
  monkeypatch.setattr("sys.argv", command(tmp_path, "steps"))
  step.main()
  result = json.loads((tmp_path / "result.json").read_text())
  assert result["batch_size"] == 8
  assert result["step_time_ms"] > 0
  assert result["kernels_per_step"] > 0
  assert len(result["dearest"]) > 2
  monkeypatch.setattr("sys.argv", [*command(tmp_path, "steps"), "--device=another"])
  with pytest.raises(SystemExit, match=r"JAX finds .*, and not another"):
    step.main()


@pytest.mark.filterwarnings("ignore:os.fork")
def test_a_training_ends_where_it_has_reached_what_it_was_to_reach(tmp_path, monkeypatch):
  monkeypatch.setattr("sys.argv", command(tmp_path, "target"))
  with pytest.raises(SystemExit) as ended:
    train.main()
  assert ended.value.code == 0
  result = json.loads((tmp_path / "result.json").read_text())
  assert result["reached"]
  assert result["validation_elbo"] >= -400 == result["until"]
  assert result["call_seconds"] > result["epoch_seconds"] > 0


def test_kernels_are_those_of_the_streams_of_the_first_gpu():
  def event(name, start, duration):
    return SimpleNamespace(name=name, start_ns=start, duration_ns=duration)

  def plane(name, **lines):
    return SimpleNamespace(
      name=name, lines=[SimpleNamespace(name=line, events=events) for line, events in lines.items()]
    )

  one = {"Stream #13(Kernel)": [event("gemm", 0.0, 5.0)], "Stream #14(MemcpyD2H)": [event("copy", 5.0, 1.0)]}
  derived = {"XLA Modules": [event("jit_train", 0.0, 6.0)]}
  planes = [
    plane("/host:CPU", tf_XLAEigen=[event("dot", 0.0, 9.0)]),
    plane("/device:GPU:1", **{"Stream #13(Kernel)": [event("other", 0.0, 5.0)]}),
    plane("/device:GPU:0", **one, **derived),
  ]
  assert list(trace.kernels(SimpleNamespace(planes=planes))) == [("gemm", 0.0, 5.0), ("copy", 5.0, 6.0)]


def test_a_host_is_not_taken_for_its_device(monkeypatch):
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  with pytest.raises(ValueError, match="saw nothing of the device"):
    list(trace.kernels(SimpleNamespace(planes=[SimpleNamespace(name="/host:CPU", lines=[])])))


@pytest.mark.parametrize("other", ["device", "rehearsal"])
def test_a_directory_has_the_measurements_of_one_device(tmp_path, monkeypatch, capsys, other):
  log = log_of(tmp_path / "results.jsonl")
  found = MACHINE | ({"device": "another"} if other == "device" else {})
  monkeypatch.setattr(process, "run", lambda *_: Outcome(1.0, result=found))
  parser = argparse.ArgumentParser()
  with pytest.raises(SystemExit):
    accelerator.find(parser, log, tmp_path, other == "rehearsal")
  assert "--out: it holds measurements" in capsys.readouterr().err
  found["device"] = MACHINE["device"]
  if other == "device":
    assert accelerator.find(parser, log, tmp_path, False).device == "NVIDIA Test"


SCRIPT = """
import json, os, sys, time
path = sys.argv[-1].removeprefix("--json=")
open(path, "w").write(json.dumps({"said": os.environ["SAID"]}))
print("ValueError: this went wrong")
print("and more")
print("error: it did not start, for the reason above")
if "sleep" in sys.argv: time.sleep(60)
if "die" in sys.argv: os.kill(os.getpid(), 9)
sys.exit(3 if "fail" in sys.argv else 0)
"""


@pytest.mark.filterwarnings("ignore:os.fork")  # JAX warns of it where it is imported, which here are the tests alone
@pytest.mark.parametrize(
  ("word", "seconds", "problem", "ended"),
  [
    ("well", 20.0, "", False),
    ("fail", 20.0, "ValueError: this went wrong (exit code 3)", False),
    ("die", 20.0, "ValueError: this went wrong (killed by SIGKILL)", False),
    ("sleep", 5.0, "", True),
  ],
)
def test_a_process_is_ended_in_time_and_says_what_went_wrong(tmp_path, monkeypatch, word, seconds, problem, ended):
  (tmp_path / "script.py").write_text(SCRIPT)
  monkeypatch.setenv("PYTHONPATH", str(tmp_path))
  measurement = Measurement("name", "steps", ("script", word), 30.0, 300.0, environment={"SAID": word})
  outcome = process.run(measurement, seconds, tmp_path)
  assert (outcome.problem, outcome.ended, outcome.result) == (problem, ended, {"said": word})
  assert outcome.seconds < 15
