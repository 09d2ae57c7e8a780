"""What a device did in a trace of jax.profiler: for how long it was busy, and with which kernels.

XLA launches kernels one by one while it is being traced, and not in graphs: the kernels' own times are those of a run,
the gaps between them are not.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import jax

MOST = 12  # kernels in a table

Kernel = tuple[str, float, float]  # name, and from when to when, ns


def traced(call: Callable[[], None], directory: Path) -> list[Kernel]:
  """The kernels of a call that waits for its end; the trace stays in the directory for other tools."""
  options = jax.profiler.ProfileOptions()
  options.python_tracer_level = 0
  with jax.profiler.trace(directory, profiler_options=options):
    call()
  (file,) = sorted(directory.rglob("*.xplane.pb"))[-1:]
  return list(kernels(jax.profiler.ProfileData.from_file(str(file))))


def kernels(profile: "jax.profiler.ProfileData") -> Iterable[Kernel]:
  """Of the first device: a GPU's streams, a TPU's operations, and the threads of a CPU."""
  planes = {plane.name: plane for plane in profile.planes}
  devices = [name for name in planes if name.startswith(("/device:GPU", "/device:TPU"))]
  if not devices and jax.default_backend() != "cpu":
    raise ValueError("the profiler saw nothing of the device")  # and a host's threads are not what it computes
  for line in planes[min(devices, default="/host:CPU")].lines:
    if line.name.startswith(("Stream", "tf_XLA")) or line.name == "XLA Ops":
      for event in line.events:
        if event.duration_ns > 0 and not event.name.startswith(("ThreadpoolListener", "ThunkExecutor")):
          yield event.name, event.start_ns, event.start_ns + event.duration_ns


def busy_ns(found: Iterable[Kernel]) -> float:
  """Nanoseconds in which at least one kernel ran."""
  total, until = 0.0, float("-inf")
  for start, end in sorted((start, end) for _, start, end in found):
    total += max(0.0, end - max(start, until))
    until = max(until, end)
  return total


def summary(found: list[Kernel], steps: int) -> dict:
  """Per step: milliseconds busy, how many kernels, and the dearest of them, by name.

  Args:
    steps: in which the kernels ran.
  """
  if not found:
    raise ValueError("the trace has no kernels")
  times, counts = Counter(), Counter()
  for name, start, end in found:
    times[name] += end - start
    counts[name] += 1
  dearest = times.most_common(MOST)
  return {
    "busy_ms": busy_ns(found) / steps / 1e6,
    "kernels_per_step": len(found) / steps,
    "dearest": [
      {"kernel": name, "per_step": counts[name] / steps, "us_per_step": time / steps / 1e3} for name, time in dearest
    ],
    "us_of_all": times.total() / steps / 1e3,
  }
