"""Names of metrics, the protocol under which runs compare, and aggregates over seeds."""

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

MetricsRow = dict[str, Any]


SPLITS = ("train", "validation", "test")

TERMS = {"elbo": "ELBO", "kl": "KL", "reconstruction": "reconstruction"}  # of every split, and what they are called

BITS = ("bits_per_dim", "nll_bits_per_dim")  # of a split, where pixels have 256 values


@dataclasses.dataclass(frozen=True)
class MetricNames:
  """How to name what files have under `elbo`, `kl`, `reconstruction` and `nll`.

  Attributes:
    likelihood: in words, as titles and results.json have it.
    terms: names of the first three.
    nll: name of the last.
    bits: whether bits per dimension belong beside nats.
    note: what a reader must know of them, if anything.
  """

  likelihood: str
  terms: Mapping[str, str]
  nll: str
  bits: bool
  note: str | None

  def in_bits(self, numbers: Mapping[str, Any], image_shape: Sequence[int]) -> dict[str, Any]:
    """A split's numbers, where bits belong beside them with `bits_per_dim` and, of an NLL, `nll_bits_per_dim`.

    Both are nats / (H W C ln 2), the first those of -ELBO. Numbers of several seeds are lists.
    """
    unit = math.prod(image_shape) * math.log(2)
    bits = {"bits_per_dim": (-np.array(numbers["elbo"]) / unit).tolist()}
    if "nll" in numbers:
      bits["nll_bits_per_dim"] = numbers["nll"] / unit
    return {**numbers, **(bits if self.bits else {})}


BINARY = MetricNames("Bernoulli", TERMS, "NLL", bits=False, note=None)

CROSS_ENTROPY = MetricNames(
  "cross-entropy",
  {"elbo": "CE bound", "kl": "KL", "reconstruction": "cross-entropy"},
  "marginal CE",
  bits=False,
  note=(
    "The pixels are grey values under a Bernoulli: a cross-entropy (CE) stands where a likelihood would, and no figure"
    " is one of a density. CE bound is -(KL + cross-entropy); marginal CE is what importance sampling makes of it."
    " model.likelihood = discretized_logistic has likelihoods of such pixels."
  ),
)

DISCRETIZED = MetricNames(
  "discretised logistic",
  TERMS,
  "NLL",
  bits=True,
  note="The pixels have 256 values per channel. Bits per dimension are nats / (H W C ln 2), of -ELBO and of the NLL.",
)


class Protocol(NamedTuple):
  """What two runs must share for their figures to compare: the keys of their configs."""

  dataset: str
  binarization: str
  likelihood: str
  image_size: int

  @property
  def metric_names(self) -> MetricNames:
    if self.likelihood == "bernoulli":
      return CROSS_ENTROPY if self.binarization == "none" else BINARY
    if self.likelihood == "discretized_logistic":
      return DISCRETIZED
    return MetricNames(self.likelihood.replace("_", " "), TERMS, "NLL", bits=False, note=None)

  @property
  def title(self) -> str:
    size = f" at {self.image_size} x {self.image_size} pixels" if self.image_size else ""
    binarization = "no" if self.binarization == "none" else self.binarization
    likelihood = "" if self.metric_names is BINARY else f", {self.metric_names.likelihood}"
    return f"{self.dataset}{size}, {binarization} binarisation{likelihood}"


def protocol_of(config: ConfigDict) -> Protocol:
  """That of a run; a model without a key `likelihood` has binary pixels."""
  data, likelihood = config.data, config.model.get("likelihood", "bernoulli")
  return Protocol(data.name, data.binarization, likelihood, data.image_size)


WITH_STD = ("loss", "elbo", "kl", "reconstruction", "kl_per_group", "active_units", "nll", *BITS)


def aggregate_seeds(numbers: Mapping[int, MetricsRow]) -> MetricsRow:
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
    split: {
      name: combine(statistics.stdev, [one[split][name] for one in of_seeds]) for name in first if name in WITH_STD
    }
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
