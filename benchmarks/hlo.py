"""Launches, dependency chains and collectives of an optimized HLO program, and the kernels of a GPU's thunks."""

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from math import prod
from typing import NamedTuple

# Operations that name, regroup or reinterpret arrays without a kernel.
FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", "replica-id"}
CALLS = {"while", "call", "async-start"}  # run another computation, whose operations are counted there
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
COMPUTATION = re.compile(r"^(?:ENTRY )?%?(?P<name>[\w.\-]+) \(.*\{$")
OPERATION = re.compile(
  r"^\s*(?:ROOT )?%(?P<name>[\w.\-]+) = (?P<type>\((?:[^()]|\([^()]*\))*\)|\S+)"
  r" (?P<kind>[\w\-]+)\((?P<operands>[^)]*)\)"
)
CALLED = re.compile(r"(?:body|to_apply|calls|called_computation)=%?([\w.\-]+)")
TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
ARRAY = re.compile(r"\b(pred|[a-z]+(\d+)[a-z0-9]*)\[([\d,]*)\]")
THUNK = re.compile(r"^(?P<indent> *)\d+: (?P<kind>k\w+)")
GRID = re.compile(r"grid: \[(\d+), (\d+), (\d+)\]")


class Operation(NamedTuple):
  """One line of a computation."""

  name: str
  kind: str  # `fusion`, `copy`, ...
  num_bytes: int  # of its result
  operands: list[str]  # names of other operations of the computation
  called: str | None  # the computation that it runs, if its kind is in `CALLS`
  trips: int  # runs of that computation; 1 if unknown

  @property
  def is_launch(self) -> bool:
    return self.kind not in FREE and not self.kind.endswith("-done")


class Program:
  """An optimized HLO program, from `compiled.as_text()`."""

  def __init__(self, text: str):
    self.computations: dict[str, list[Operation]] = {}
    self.entry, current = "", None
    for line in text.splitlines():
      if start := COMPUTATION.match(line):
        current = self.computations.setdefault(start["name"], [])
        self.entry = start["name"] if line.startswith("ENTRY") else self.entry
      elif current is not None and (match := OPERATION.match(line)):
        current.append(_parse_operation(match, line))
    if not self.entry:
      raise ValueError("no ENTRY computation in this text")
    self.longest_chain = cache(self._longest_chain)

  def loop_body(self, trips: int) -> str:
    """Returns the body of the entry's loop with that many trips, or of its only loop."""
    loops = [each for each in self.computations[self.entry] if each.kind == "while"]
    bodies = [each.called for each in loops if each.trips == trips or len(loops) == 1]  # a TPU does not state trips
    if len(bodies) != 1:
      raise ValueError(f"{len(bodies)} loops of {trips} trips")
    return bodies[0]

  def operations(self, name: str, times: int = 1) -> Iterator[tuple[Operation, int]]:
    """Yields every launch of a computation and how often it runs; in a loop once per trip."""
    for each in self.computations[name]:
      if each.kind in CALLS:
        yield from self.operations(each.called, times * each.trips)
      elif each.is_launch:
        yield each, times

  def launches(self, name: str) -> Counter:
    """Counts launches by kind."""
    total = Counter()
    for each, times in self.operations(name):
      total[each.kind] += times
    return total

  def collectives(self, name: str) -> dict[str, tuple[int, int]]:
    """Returns the number of collectives of each kind, and the bytes of their results."""
    total: dict[str, tuple[int, int]] = {}
    for each, times in self.operations(name):
      kind = each.kind.removesuffix("-start")
      if kind in COLLECTIVES:
        count, num_bytes = total.get(kind, (0, 0))
        total[kind] = count + times, num_bytes + times * each.num_bytes
    return total

  def _longest_chain(self, name: str) -> int:
    """Returns the most launches that must run one after the other; trips of a loop do."""
    depths: dict[str, int] = {}
    for each in self.computations[name]:
      own = each.trips * self.longest_chain(each.called) if each.kind in CALLS else int(each.is_launch)
      depths[each.name] = own + max((depths.get(operand, 0) for operand in each.operands), default=0)
    return max(depths.values(), default=0)


class Thunks(NamedTuple):
  """Launches in the body of a GPU program's first loop; an inner loop counts once."""

  graphs: int  # command buffers, each one launch by the host
  outside: int  # launches outside of graphs
  blocks: list[int]  # of every kernel


def parse_thunks(text: str) -> Thunks:
  """Parses a `*.thunk_sequence_after_thunk_passes.txt` of XLA's dump."""
  graphs, outside, blocks, outermost = 0, 0, [], None
  for line in text.partition("kWhile")[2].partition("body:\n")[2].splitlines():
    if (match := THUNK.match(line)) is None:
      continue
    indent = len(match["indent"])
    outermost = indent if outermost is None else outermost
    if indent < outermost:
      break
    graphs += match["kind"] == "kCommandBuffer"
    outside += indent == outermost and match["kind"] not in ("kCommandBuffer", "kWhile")
    if grid := GRID.search(line):
      blocks.append(prod(map(int, grid.groups())))
  return Thunks(graphs, outside, blocks)


def _parse_operation(match: re.Match, line: str) -> Operation:
  kind, called, trips = match["kind"], CALLED.search(line), TRIPS.search(line)
  sizes = [
    prod(map(int, filter(None, shape.split(",")))) * (int(bits or 8) // 8 or 1)
    for _, bits, shape in ARRAY.findall(match["type"])
  ]
  return Operation(
    name=match["name"],
    kind=kind,
    num_bytes=sum(sizes),
    operands=re.findall(r"%([\w.\-]+)", match["operands"]),
    called=called[1] if kind in CALLS else None,
    trips=int(trips[1]) if kind == "while" and trips else 1,
  )
