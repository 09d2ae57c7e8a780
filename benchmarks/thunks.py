"""What a GPU is told to do, as XLA writes it down beside a compiled program: graphs, and kernels with their grids."""

import re
from math import prod
from typing import NamedTuple

LINE = re.compile(r"^(?P<indent> *)\d+: (?P<kind>k\w+)")
GRID = re.compile(r"grid: \[(\d+), (\d+), (\d+)\]")


class Thunks(NamedTuple):
  """Of the body of the first loop; one within it counts once.

  Attributes:
    graphs: command buffers, which CUDA knows as graphs: each is one launch by the host.
    outside: launches that are in none.
    blocks: of every kernel.
  """

  graphs: int
  outside: int
  blocks: list[int]


def read(text: str) -> Thunks:
  """Of a `*.thunk_sequence_after_thunk_passes.txt`."""
  body = text.partition("kWhile")[2].partition("body:\n")[2].splitlines()
  partial_epoch = [line for line in body if LINE.match(line)]
  outermost = len(LINE.match(partial_epoch[0])["indent"]) if partial_epoch else 0
  graphs, outside, blocks = 0, 0, []
  for line in body:
    found = LINE.match(line)
    if found is None:
      continue
    indent = len(found["indent"])
    if indent < outermost:
      break
    graphs += found["kind"] == "kCommandBuffer"
    outside += indent == outermost and found["kind"] not in ("kCommandBuffer", "kWhile")
    if grid := GRID.search(line):
      blocks.append(prod(map(int, grid.groups())))
  return Thunks(graphs, outside, blocks)
