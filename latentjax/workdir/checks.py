"""What the files of a run must hold, as far as anyone reads them: JSON may be valid and yet no run's."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

SPLITS = ("train", "validation", "test")
TERMS = {"elbo": "ELBO", "kl": "KL", "reconstruction": "reconstruction"}  # of every split, and what they are called

BITS = ("bits_per_dim", "nll_bits_per_dim")  # of a split, where pixels have 256 values

INVALID = (AttributeError, KeyError, OverflowError, TypeError, ValueError)  # what the checks raise


def reason(error: Exception) -> str:
  """One of `INVALID` in one line."""
  return f"it has no {error.args[0]}" if isinstance(error, KeyError) else str(error).splitlines()[0]


def checked_image_shape(shape: Any) -> tuple[int, int, int]:
  """(H, W, C); raises one of `INVALID` unless it is that."""
  if not (len(shape) == 3 and all(isinstance(size, int) and size > 0 for size in shape)):
    raise ValueError(f"image_shape is {shape!r}")
  return tuple(shape)


def check_line(line: Any, epoch: int) -> None:
  """Raises one of `INVALID` unless it is a line of metrics.jsonl, that of an epoch."""
  for split in ("train", "validation"):
    check_numbers(line[split], TERMS, (*BITS, "importance_bound"))
    check_deviations(line, split, TERMS)
  check_numbers(line, ("step", "seconds", "images_per_second"))
  if line["epoch"] != epoch:
    raise ValueError(f"it is of epoch {line['epoch']!r}, not {epoch}")


def check_results(results: Any) -> None:
  """Raises one of `INVALID` unless it is the content of a results.json."""
  for split in SPLITS:
    check_numbers(results[split], TERMS, (*BITS, "elbo_stderr"))
    check_deviations(results, split, TERMS)
  check_numbers(results, ("parameters",), ("epoch", "epochs_trained", "train_minutes"))
  test = results["test"]
  if "nll" in test:
    check_numbers(test, ("nll", "nll_samples"), ("nll_stderr", "num_examples"))
    check_deviations(results, "test", ("nll",))
  groups = test.get("kl_per_group") or []
  active = test.get("active_units") or groups
  if len(active) != len(groups):
    raise ValueError("active_units and kl_per_group have different lengths")
  for values in (groups, active, *(test.get("nll_curve") or [])):
    check_numbers(dict(enumerate(values)), range(len(values)))
  if any(len(point) != 2 for point in test.get("nll_curve") or []):
    raise ValueError("nll_curve is no list of K and NLL")


def check_deviations(numbers: Mapping, split: str, keys: Iterable) -> None:
  """As `check_numbers`, of the standard deviations that numbers of several seeds have."""
  if "std" in numbers:
    check_numbers(numbers["std"][split], keys)


def check_numbers(values: Mapping, keys: Iterable, optional: Iterable = ()) -> None:
  """Raises one of `INVALID` unless all values are finite numbers; optional ones may be None or absent."""
  for key in [*keys, *(key for key in optional if values.get(key) is not None)]:
    if isinstance(values[key], bool) or not math.isfinite(values[key]):
      raise ValueError(f"{key} is {values[key]!r}")
