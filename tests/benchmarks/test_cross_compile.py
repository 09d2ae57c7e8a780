"""Bounds on training steps compiled for GPUs and TPUs; skipped without the compilers of `make compiled`."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from benchmarks import cross_compile
from benchmarks.common import load_config
from benchmarks.cross_compile import TARGETS
from benchmarks.hlo import Thunks, parse_thunks

THUNKS = """000: kCommandBuffer [source       | next=002 (1)]
    001: kCopy [source       | sink        ] kCopy
002: kWhile         [prev=000 (1) | next=000 (1)]
condition:
    003: kCustomKernel [source | sink] wrapped_compare grid: [1, 1, 1] threads: [1, 1, 1]
  body:
    000: kCommandBuffer [source | sink]
        004: kCustomKernel [source | sink] loop_add_fusion grid: [392, 2, 1] threads: [128, 1, 1]
        005: kCopy         [source | sink] kCopy
    006: kConvolution [source | sink] conv
    000: kCommandBuffer [source | sink]
        007: kCustomKernel [source | sink] loop_subtract_fusion grid: [1, 1, 1] threads: [1, 1, 1]
000: kCommandBuffer [prev=002 (1) | sink        ]
    008: kCustomKernel [source | sink] loop_add_fusion_18 grid: [1, 1, 1] threads: [1, 1, 1]
"""


def has(target: str) -> bool:
  return all(map(importlib.util.find_spec, TARGETS[target].modules))


def measured(tmp_path, target: str, *options: str) -> list[dict]:
  """Returns the rows of the command's JSON, compiled with all optimizations."""
  if not has(target):
    pytest.skip(f"nothing here compiles for {target}")
  path = tmp_path / "compiled.json"
  environment = {key: value for key, value in os.environ.items() if key != "JAX_DISABLE_MOST_OPTIMIZATIONS"}
  command = [sys.executable, "-m", "benchmarks.cross_compile", f"--target={target}", f"--json={path}", *options]
  subprocess.run(command, env=environment, capture_output=True, check=True)
  return json.loads(path.read_text())["rows"]


def test_graphs_and_kernels_are_those_of_the_loop():
  assert parse_thunks(THUNKS) == Thunks(graphs=2, outside=1, blocks=[784, 1])


@pytest.mark.parametrize(
  ("config", "num_steps", "most"),
  [
    ("vae:default", None, 70),
    ("ladder_vae:default", None, 156),
    ("draw:base", 10, 286),
    ("draw:paper", 10, 400),
    ("draw:paper", 64, 2200),
  ],
)
def test_a_step_keeps_within_its_launches_and_is_one_graph(tmp_path, config, num_steps, most):
  changes = ["--set", f"model.num_steps={num_steps}"] if num_steps else []
  (row,) = measured(tmp_path, "h100", "--config", config, *changes)
  assert row["launches"] <= most
  assert (row["graphs"], row["outside_graphs"]) == (1, 0)


@pytest.mark.parametrize("target", ["h100x8", "tpu-v5e", "tpu-v5e:16x16"])
def test_devices_exchange_the_gradient_at_once_and_each_batch_norm(tmp_path, target):
  """One all-reduce of the gradient; each of the six batch norms of a Ladder VAE needs two."""
  small = ["--set", "model.num_steps=2"]
  rows = measured(tmp_path, target, "--config", "vae:default", "ladder_vae:default")
  rows += measured(tmp_path, target, "--config", "draw:filterbank", *small)
  for row, most in zip(rows, (1, 13, 1), strict=True):
    assert row["collectives"].keys() == {"all-reduce"}
    count, num_bytes = row["collectives"]["all-reduce"]
    assert count <= most
    assert num_bytes < 1.02 * row["parameter_bytes"] + 64 * 1024


def test_a_missing_compiler_is_one_line(tmp_path):
  target = cross_compile.Target("cuda", {}, ("no_such_module",), (1.0, 1.0, 1.0), link=1.0)
  with pytest.raises(SystemExit, match="make compiled"):
    cross_compile.compile_steps(load_config("vae:default"), None, target, 1, str(tmp_path))
