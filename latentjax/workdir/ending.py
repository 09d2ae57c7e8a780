"""When a training is over: by the lines of its log alone, so that a resumed run ends where it would have ended."""

from collections.abc import Iterable, Mapping, Sequence

from ml_collections import ConfigDict

from latentjax.workdir.record import Line


def over(config: ConfigDict, lines: Sequence[Line]) -> bool:
  """Whether all epochs are done, or the last `train.patience` of them were no better than one before.

  Args:
    config: the whole config.
    lines: of metrics.jsonl, one of each epoch done.
  """
  patience = config.train.patience
  return len(lines) >= config.train.epochs or bool(patience and epochs_since_best(lines) >= patience)


def epochs_since_best(lines: Sequence[Line]) -> int:
  """Epochs after the one with the highest validation bound, the first of equal ones; of several seeds the latest such.

  The bound is the one by which checkpoints are kept: the importance-weighted one where that is trained.
  """
  by_seed = zip(*(bounds(line) for line in lines), strict=True)
  return min((len(lines) - 1 - seed.index(max(seed)) for seed in by_seed), default=0)


def bounds(line: Line) -> list[float]:
  """The validation bound of every seed."""
  seeds: Iterable[Mapping] = line["seeds"].values() if "seeds" in line else [line]
  return [seed["validation"].get("importance_bound", seed["validation"]["elbo"]) for seed in seeds]
