"""What stands in a program that XLA has optimised: its launches, the longest chain of them, what devices exchange."""

import re
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from math import prod
from typing import NamedTuple

# What names, regroups or reinterprets arrays without a kernel.
FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", "replica-id"}
CALLS = {"while", "call", "async-start"}  # one other computation, its operations counted there
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
COMPUTATION = re.compile(r"^(?:ENTRY )?%?(?P<name>[\w.\-]+) \(.*\{$")
OPERATION = re.compile(
  r"^\s*(?:ROOT )?%(?P<name>[\w.\-]+) = (?P<type>\((?:[^()]|\([^()]*\))*\)|\S+)"
  r" (?P<kind>[\w\-]+)\((?P<operands>[^)]*)\)"
)
CALLED = re.compile(r"(?:body|to_apply|calls|called_computation)=%?([\w.\-]+)")
TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
ARRAY = re.compile(r"\b(pred|[a-z]+(\d+)[a-z0-9]*)\[([\d,]*)\]")


class Operation(NamedTuple):
  """One line of a computation.

  Attributes:
    kind: `fusion`, `copy`, ...
    num_bytes: of its result.
    operands: names of other operations of the computation.
    called: the computation that it runs, if it is of `CALLS`.
    trips: how often it does; 1 where that is not known.
  """

  name: str
  kind: str
  num_bytes: int
  operands: list[str]
  called: str | None
  trips: int

  @property
  def is_launch(self) -> bool:
    return self.kind not in FREE and not self.kind.endswith("-done")


class Program:
  """Optimised HLO text, as `compiled.as_text()` gives it.

  Raises:
    ValueError: the text has no entry computation.
  """

  def __init__(self, text: str):
    self.computations: dict[str, list[Operation]] = {}
    self.entry, current = "", None
    for line in text.splitlines():
      if start := COMPUTATION.match(line):
        current = self.computations.setdefault(start["name"], [])
        self.entry = start["name"] if line.startswith("ENTRY") else self.entry
      elif current is not None and (found := OPERATION.match(line)):
        current.append(operation(found, line))
    if not self.entry:
      raise ValueError("no ENTRY computation in this text")

  def body_of_loop(self, trips: int) -> str:
    """The body of the entry's loop of that many trips; of its only loop where that, as on a TPU, does not say how many.

    Raises:
      ValueError: there is none, or more than one.
    """
    loops = [one for one in self.computations[self.entry] if one.kind == "while"]
    bodies = [one.called for one in loops if one.trips == (trips if len(loops) > 1 else one.trips)]
    if len(bodies) != 1:
      raise ValueError(f"{len(bodies)} loops of {trips} trips")
    return bodies[0]

  def operations(self, name: str, times: int = 1) -> Iterator[tuple[Operation, int]]:
    """Every launch of a computation and how often it is made: in a loop as often as that runs."""
    for one in self.computations[name]:
      if one.kind in CALLS:
        yield from self.operations(one.called, times * one.trips)
      elif one.is_launch:
        yield one, times

  def launches(self, name: str) -> Counter:
    """How many there are of each kind."""
    total = Counter()
    for one, times in self.operations(name):
      total[one.kind] += times
    return total

  def collectives(self, name: str) -> dict[str, tuple[int, int]]:
    """How many there are of each kind, and the bytes of their results."""
    total: dict[str, tuple[int, int]] = {}
    for one, times in self.operations(name):
      kind = one.kind.removesuffix("-start")
      if kind in COLLECTIVES:
        count, num_bytes = total.get(kind, (0, 0))
        total[kind] = count + times, num_bytes + times * one.num_bytes
    return total

  def longest_chain(self, name: str) -> int:
    """Launches of which each needs the one before; of a loop's trips each needs the one before."""
    return self._chains.get(name) or self._chains.setdefault(name, self._longest_chain(name))

  def _longest_chain(self, name: str) -> int:
    depths: dict[str, int] = {}
    for one in self.computations[name]:
      own = one.trips * self.longest_chain(one.called) if one.kind in CALLS else int(one.is_launch)
      depths[one.name] = own + max((depths.get(operand, 0) for operand in one.operands), default=0)
    return max(depths.values(), default=0)

  @cached_property
  def _chains(self) -> dict[str, int]:
    return {}


def operation(found: re.Match, line: str) -> Operation:
  kind, called, trips = found["kind"], CALLED.search(line), TRIPS.search(line)
  sizes = [
    prod(map(int, filter(None, shape.split(",")))) * (int(bits or 8) // 8 or 1)
    for _, bits, shape in ARRAY.findall(found["type"])
  ]
  return Operation(
    name=found["name"],
    kind=kind,
    num_bytes=sum(sizes),
    operands=re.findall(r"%([\w.\-]+)", found["operands"]),
    called=called[1] if kind in CALLS else None,
    trips=int(trips[1]) if kind == "while" and trips else 1,
  )
