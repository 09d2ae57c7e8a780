"""Numbers of several seeds: their mean where a single run has its number, their spread, and each seed's own."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from latentjax.workdir.figures import BITS
from latentjax.workdir.record import Line

SPREAD = ("loss", "elbo", "kl", "reconstruction", "kl_per_group", "active_units", "nll", *BITS)


def summarise(numbers: Mapping[int, Line]) -> Line:
  """What metrics.jsonl and results.json hold of the numbers of every seed.

  Args:
    numbers: seed -> splits and numbers as a single run has them, equally many of each.

  Returns:
    One seed's numbers as they are. Of several: each number's mean in its place, `std` with the sample standard
    deviations (n - 1) over seeds of what is `SPREAD`, split by split, and `seeds`, seed -> its numbers.
  """
  of_seeds = list(numbers.values())
  if len(of_seeds) == 1:
    return of_seeds[0]
  spread = {
    split: {name: combine(statistics.stdev, [one[split][name] for one in of_seeds]) for name in first if name in SPREAD}
    for split, first in of_seeds[0].items()
    if isinstance(first, Mapping)
  }
  seeds = {str(seed): one for seed, one in numbers.items()}
  return {**combine(statistics.mean, of_seeds), "std": spread, "seeds": seeds}


def combine(function, values: Sequence[Any]) -> Any:
  """The function of numbers, one by one in dicts and lists; None where one of them is None."""
  first = values[0]
  if isinstance(first, Mapping):
    return {name: combine(function, [value[name] for value in values]) for name in first}
  if isinstance(first, list):
    return [combine(function, list(column)) for column in zip(*values, strict=True)]
  return None if None in values else function(values)
