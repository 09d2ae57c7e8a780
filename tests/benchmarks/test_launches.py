"""The launch counter on a program small enough to count by hand, and the limits that training steps are to keep.

The latter are skipped where what compiles for an H100 is not installed: the head of benchmarks/launches.py names it.
"""

import importlib.util
import re
import subprocess
import sys

import pytest

from benchmarks.launches import NEEDED, compile_for_h100, count_launches

PROGRAM = """HloModule jit_train, is_scheduled=true, entry_computation_layout={(f32[4]{0})->f32[4]{0}}

%fused_computation (param_0: f32[4]) -> f32[4] {
  %param_0 = f32[4]{0} parameter(0)
  ROOT %add.1 = f32[4]{0} add(%param_0, %param_0)
}

%inner (p.1: (s32[], f32[4])) -> (s32[], f32[4]) {
  %p.1 = (s32[], f32[4]{0}) parameter(0)
  %x.1 = f32[4]{0} get-tuple-element(%p.1), index=1
  %loop_add_fusion = f32[4]{0} fusion(%x.1), kind=kLoop, calls=%fused_computation
  %gemm.1 = (f32[4]{0}, s8[4194304]{0}) custom-call(%x.1), custom_call_target="__cublas$gemm"
  ROOT %tuple.1 = (s32[], f32[4]{0}) tuple(%loop_add_fusion, %x.1)
}

%inner_condition (p.2: (s32[], f32[4])) -> pred[] {
  %p.2 = (s32[], f32[4]{0}) parameter(0)
  ROOT %less = pred[] compare(%p.2, %p.2), direction=LT
}

%outer (p.3: (s32[], f32[4])) -> (s32[], f32[4]) {
  %p.3 = (s32[], f32[4]{0}) parameter(0)
  %copy.1 = f32[4]{0:T(8)} copy(%p.3)
  ROOT %while.1 = (s32[], f32[4]{0}) while(%p.3), condition=%inner_condition, body=%inner, \
backend_config={"known_trip_count":{"n":"10"}}
}

%captured (p.5: f32[4]) -> f32[4] {
  %p.5 = f32[4]{0} parameter(0)
  ROOT %fusion.9 = f32[4]{0} fusion(%p.5), kind=kInput, calls=%fused_computation
}

ENTRY %main.1 (p.4: f32[4]) -> f32[4] {
  %p.4 = f32[4]{0} parameter(0)
  %zero = s32[] constant(0)
  %call.1 = f32[4]{0} call(%p.4), to_apply=%captured
  %tuple.2 = (s32[], f32[4]{0}) tuple(%zero, %call.1)
  %while.2 = (s32[], f32[4]{0}) while(%tuple.2), condition=%inner_condition, body=%outer
  ROOT %out = f32[4]{0} get-tuple-element(%while.2), index=1
}
"""


def test_a_loop_counts_as_often_as_it_runs_and_one_of_unknown_length_once():
  assert count_launches(PROGRAM) == {"fusion": 10 + 1, "custom-call": 10, "copy": 1}


def test_no_program_is_refused():
  with pytest.raises(ValueError, match="ENTRY"):
    count_launches("HloModule empty\n")


@pytest.mark.skipif(not all(map(importlib.util.find_spec, NEEDED)), reason="nothing here compiles for an H100")
@pytest.mark.parametrize(
  ("config", "num_steps", "most"), [("draw:base", 10, 564), ("draw:paper", 10, 564), ("draw:paper", 64, 3000)]
)
def test_a_training_step_keeps_within_its_launches(config, num_steps, most):
  command = [sys.executable, "-m", "benchmarks.launches", f"--config={config}", "--set", f"model.num_steps={num_steps}"]
  said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
  assert int(re.search(r"(\d+) launches per step", said)[1]) <= most


def test_what_is_not_installed_is_said(monkeypatch):
  monkeypatch.setattr("benchmarks.launches.NEEDED", ("no_such_module",))
  with pytest.raises(SystemExit, match="compiles for an H100"):
    compile_for_h100(None, None, 1)
