"""A queue of measurements, worked off in order of worth: each in a process of its own, until the time is over.

What is measured or has failed is never begun again; what was skipped, or stopped because the time was over, is. What
would not fit into the time that is left is passed over for what may.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from benchmarks.accelerator.log import Log

HOPELESS = 3  # failures before anything was measured: then it is the machine that fails


class HopelessError(Exception):
  """All that was begun has failed, the last for this reason."""


@dataclasses.dataclass(frozen=True)
class Measurement:
  """One row of the report.

  Attributes:
    name: that no other has.
    part: the part of the report.
    command: a Python module with its arguments, which writes its result to the file that `--json` adds.
    least, limit: seconds below which it is not begun, and after which it has failed.
    facts: what its row says of it, by column, besides its result.
    environment: variables on top of this process's own.
    lacks: why it cannot be measured here, or nothing.
  """

  name: str
  part: str
  command: tuple[str, ...]
  least: float
  limit: float
  facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
  lacks: str = ""


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What became of a process.

  Attributes:
    seconds: that it took.
    problem: why it failed, or nothing.
    ended: whether it was ended because its seconds were over.
    result: what it had written by then.
  """

  seconds: float
  problem: str = ""
  ended: bool = False
  result: dict[str, Any] | None = None


def work_off(
  queue: Iterable[Measurement],
  log: Log,
  run: Callable[[Measurement, float], Outcome],
  remaining: Callable[[], float],
) -> bool:
  """Runs what is left of a queue.

  Args:
    log: whose first line is the machine's.
    run: (measurement, seconds that it may take) -> Outcome.
    remaining: seconds that are left for all.

  Returns:
    Whether nothing is left to measure, but what is lacking here.

  Raises:
    HopelessError: all that was begun has failed.
  """
  done, failures = True, 0
  for measurement in queue:
    if log.is_final(measurement.name):
      continue
    if measurement.lacks:
      log.add(measurement, "skipped", measurement.lacks)
      continue
    left = remaining()
    if left < measurement.least:
      done = False
      continue
    outcome = run(measurement, min(measurement.limit, left))
    if not (outcome.ended or outcome.problem):
      log.add(measurement, "measured", "", outcome.seconds, outcome.result)
    elif outcome.ended and left <= measurement.limit:
      log.add(measurement, "stopped", "the time was over", outcome.seconds, outcome.result)
      return False  # all is over
    else:
      problem = f"took more than {measurement.limit:.0f} s" if outcome.ended else outcome.problem
      log.add(measurement, "failed", problem, outcome.seconds, outcome.result)
      failures += 1
      if failures >= HOPELESS and not any(line["status"] == "measured" for line in log.lines[1:]):
        raise HopelessError(problem)
  return done
