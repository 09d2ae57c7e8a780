"""Counts of an optimized HLO program that is small enough to count by hand."""

import pytest

from benchmarks.hlo import Program

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
  %reduce.1 = (f32[4]{0}, bf16[2,3]{1,0}) all-reduce-start(%call.1, %p.4), replica_groups={{0,1}}, to_apply=%captured
  %reduce.2 = (f32[4]{0}, bf16[2,3]{1,0}) all-reduce-done(%reduce.1)
  %apart = f32[4]{0} negate(%p.4)
  %tuple.2 = (s32[], f32[4]{0}) tuple(%zero, %reduce.2)
  %while.2 = (s32[], f32[4]{0}) while(%tuple.2), condition=%inner_condition, body=%outer
  ROOT %out = f32[4]{0} get-tuple-element(%while.2), index=1
}
"""


def test_a_loop_counts_as_often_as_it_runs_and_one_of_unknown_length_once():
  expected = {"fusion": 10 + 1, "custom-call": 10, "copy": 1, "all-reduce-start": 1, "negate": 1}
  assert Program(PROGRAM).launches("main.1") == expected


def test_the_longest_chain_leaves_out_what_waits_for_nothing():
  """The call, the exchange and ten fusions; the products in their loop, the copy and the negation lie beside them."""
  program = Program(PROGRAM)
  assert program.longest_chain("main.1") == 2 + 10
  assert program.longest_chain("inner") == 1
  assert program.longest_chain("captured") == 1


def test_collectives_are_counted_with_their_bytes():
  assert Program(PROGRAM).collectives("main.1") == {"all-reduce": (1, 4 * 4 + 2 * 3 * 2)}
  assert Program(PROGRAM).collectives("outer") == {}


def test_a_loop_is_found_by_its_trips_or_as_the_only_one():
  assert Program(PROGRAM).loop_body(39) == "outer"
  (loop,) = [line for line in PROGRAM.splitlines(keepends=True) if "body=%outer" in line]
  counted = loop.replace("while.2", "while.3").replace("\n", ', backend_config={"known_trip_count":{"n":"39"}}\n')
  two = Program(PROGRAM.replace(loop, loop + counted))
  assert two.loop_body(39) == "outer"
  with pytest.raises(ValueError, match="0 loops of 10"):  # the inner loop has them
    two.loop_body(10)


def test_no_program_is_refused():
  with pytest.raises(ValueError, match="ENTRY"):
    Program("HloModule empty\n")
