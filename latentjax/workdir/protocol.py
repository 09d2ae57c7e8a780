"""Names of metrics, the protocol under which runs compare, and aggregates over seeds."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from latentjax.config.schema import LIKELIHOODS_OF_LEVELS
from latentjax.runtime.console import console
from latentjax.runtime.fileio import to_finite

MetricsRow = dict[str, Any]
SPLITS = ("train", "validation", "test")
TERMS = {"elbo": "ELBO", "kl": "KL", "reconstruction": "reconstruction"}  # key in files -> name
BITS = ("bits_per_dim", "nll_bits_per_dim")  # of a split, if pixels have 256 values


class MetricNames(NamedTuple):
  """Names of the metrics `elbo`, `kl`, `reconstruction` (in `terms`) and `nll` under a likelihood."""

  likelihood: str
  terms: Mapping[str, str] = TERMS
  nll: str = "NLL"
  bits: bool = False  # bits per dimension are added to nats
  note: str | None = None  # explains the metrics to the reader

  def in_bits(self, numbers: Mapping[str, Any], image_shape: Sequence[int]) -> dict[str, Any]:
    """Returns a split's metrics, with `bits_per_dim` (of -ELBO) and `nll_bits_per_dim` added if `bits` is set.

    Both are nats / (H W C ln 2). Metrics of several seeds are lists.
    """
    unit = math.prod(image_shape) * math.log(2)
    bits = {"bits_per_dim": (-np.array(numbers["elbo"]) / unit).tolist()}
    if "nll" in numbers:
      bits["nll_bits_per_dim"] = numbers["nll"] / unit
    return {**numbers, **(bits if self.bits else {})}


BINARY = MetricNames("Bernoulli")

CROSS_ENTROPY = MetricNames(
  "cross-entropy",
  {"elbo": "CE bound", "kl": "KL", "reconstruction": "cross-entropy"},
  "marginal CE",
  note="The pixels have values between 0 and 1 under a Bernoulli, so the metrics are cross-entropies (CE), not"
  " log-likelihoods: CE bound is -(KL + cross-entropy), and marginal CE is its estimate from importance samples. For"
  " likelihoods of such pixels, set model.likelihood = discretized_logistic.",
)

DISCRETIZED = MetricNames(
  "discretized logistic",
  bits=True,
  note="The pixels have 256 values per channel. Bits per dimension are nats / (H W C ln 2), of -ELBO and of the NLL.",
)


class Protocol(NamedTuple):
  """The config keys that two runs must share for their metrics to be comparable."""

  dataset: str
  binarization: str
  likelihood: str
  image_size: int

  @property
  def metric_names(self) -> MetricNames:
    if self.likelihood == "bernoulli":
      return CROSS_ENTROPY if self.binarization == "none" else BINARY
    own = DISCRETIZED if self.likelihood in LIKELIHOODS_OF_LEVELS else BINARY
    return own._replace(likelihood=self.likelihood.replace("_", " "))

  @property
  def title(self) -> str:
    size = f" at {self.image_size} x {self.image_size} pixels" if self.image_size else ""
    binarization = "no" if self.binarization == "none" else self.binarization
    likelihood = "" if self.metric_names is BINARY else f", {self.metric_names.likelihood}"
    return f"{self.dataset}{size}, {binarization} binarization{likelihood}"


def protocol_of(config: ConfigDict) -> Protocol:
  """Returns the protocol of a run; a model without a key `likelihood` has binary pixels."""
  data, likelihood = config.data, config.model.get("likelihood", "bernoulli")
  return Protocol(data.name, data.binarization, likelihood, data.image_size)


def finite_metrics(splits: Mapping[str, MetricsRow], owner: str = "") -> dict[str, MetricsRow]:
  """Returns the metrics of every split with None for NaN and infinities, which it names in one printed line.

  `owner` is named in that line, such as " for seed 3".
  """
  finite = to_finite(splits)
  names = [(split, name) for split, metrics in splits.items() for name in metrics]
  lost = [f"{split} {name}" for split, name in names if splits[split][name] != finite[split][name]]
  if lost:
    advice = "Try a lower train.learning_rate or train.clip_norm in a new workdir."
    console.print(f"NaN or infinite{owner}, written as null: {', '.join(lost)}. {advice}")
  return finite


WITH_STD = ("loss", "elbo", "kl", "reconstruction", "kl_per_group", "active_units", "nll", *BITS)


def aggregate_seeds(rows: Mapping[int, MetricsRow]) -> MetricsRow:
  """Returns the entries of several seeds as one entry of metrics.jsonl or results.json; a single one stays as it is.

  It has the mean of every number, `std` with the sample standard deviation (n - 1) over seeds of the metrics in
  `WITH_STD`, split by split, and `seeds` with the entry of every seed.
  """
  entries = list(rows.values())
  if len(entries) == 1:
    return entries[0]
  std = {
    split: {
      name: _map_numbers(statistics.stdev, [entry[split][name] for entry in entries])
      for name in metrics
      if name in WITH_STD
    }
    for split, metrics in entries[0].items()
    if isinstance(metrics, Mapping)
  }
  seeds = {str(seed): entry for seed, entry in rows.items()}
  return {**_map_numbers(statistics.mean, entries), "std": std, "seeds": seeds}


def _map_numbers(function: Callable[[Sequence[float]], float], values: Sequence[Any]) -> Any:
  """Applies a function to corresponding numbers of nested dicts and lists; the result is None if one of them is."""
  first = values[0]
  if isinstance(first, Mapping):
    return {name: _map_numbers(function, [value[name] for value in values]) for name in first}
  if isinstance(first, list):
    return [_map_numbers(function, list(column)) for column in zip(*values, strict=True)]
  return None if None in values else function(values)
