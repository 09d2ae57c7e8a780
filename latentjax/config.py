"""What a config may say, how it is kept as JSON, and what makes two of them different experiments."""

import difflib
import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from latentjax.errors import RunError, UsageError

# Keys and sections that say how long to train, how fast, and what to evaluate or draw, not which experiment it is.
FREE = (
  "compile_cache",
  "train.epochs",
  "train.steps_per_call",
  "data.placement",
  "model.unroll",
  "model.weight_gradients",
  "model.remat",
  "eval",
  "sample",
  "benchmark",
)

ORIGINS = "run"  # what else config.json says: under which command, code, libraries and data the run was trained

Rule = tuple[str, Callable[[Any], bool]]


def one_of(*choices: str) -> Rule:
  return f"one of {', '.join(choices)}", lambda value: value in choices


AT_LEAST_ONE: Rule = ("at least 1", lambda value: value >= 1)
NOT_NEGATIVE: Rule = ("0 or more", lambda value: 0 <= value < math.inf)
POSITIVE: Rule = ("more than 0", lambda value: 0 < value < math.inf)
FINITE: Rule = ("a finite number", math.isfinite)
FRACTION: Rule = ("at least 0 and below 1", lambda value: 0 <= value < 1)
COUNTS: Rule = (
  "one or more whole numbers, each at least 1, such as '(512, 256)'",
  lambda value: len(value) > 0 and all(isinstance(count, int) and count >= 1 for count in value),
)

RULES: dict[str, Rule] = {
  "seed": ("from 0 to 4294967295", lambda value: 0 <= value < 2**32),
  "precision": one_of("float32", "tensorfloat32", "bfloat16"),
  "data.placement": one_of("auto", "device", "host", "disk"),
  "data.binarization": one_of("dynamic", "static", "none"),
  "model.name": one_of("draw", "ladder_vae", "vae"),
  "model.attention": one_of("none", "filterbank"),
  "model.num_steps": AT_LEAST_ONE,
  "model.read_size": AT_LEAST_ONE,
  "model.write_size": AT_LEAST_ONE,
  "model.hidden_dim": AT_LEAST_ONE,
  "model.latent_dim": AT_LEAST_ONE,
  "model.init_scale": POSITIVE,
  "model.variance_bias": FINITE,
  "model.stride_bias": FINITE,
  "model.unroll": ("0 or more", lambda value: value >= 0),
  "model.weight_gradients": one_of("auto", "step", "after"),
  "model.remat": one_of("none", "step", "sqrt"),
  "model.hidden_dims": COUNTS,
  "model.latent_dims": COUNTS,
  "model.mlp_depth": AT_LEAST_ONE,
  "model.inference": one_of("ladder", "bottom_up"),
  "model.encoder_activation": one_of("relu", "tanh", "silu"),
  "model.decoder_activation": one_of("relu", "tanh", "silu"),
  "model.network": one_of("dense", "residual"),
  "train.batch_size": AT_LEAST_ONE,
  "train.epochs": ("from 1 to 1000000", lambda value: 1 <= value <= 10**6),
  "train.learning_rate": POSITIVE,
  "train.schedule": one_of("constant", "linear", "cosine"),
  "train.decay_start": ("from 0 to 1000000", lambda value: 0 <= value <= 10**6),
  "train.decay_end": ("from 0 to 1000000", lambda value: 0 <= value <= 10**6),
  "train.adam_b1": FRACTION,
  "train.clip_norm": NOT_NEGATIVE,
  "train.ema_decay": FRACTION,
  "train.beta": NOT_NEGATIVE,
  "train.kl_warmup_epochs": NOT_NEGATIVE,
  "train.free_bits": NOT_NEGATIVE,
  "train.importance_samples": AT_LEAST_ONE,
  "train.importance_start": NOT_NEGATIVE,
  "train.num_seeds": AT_LEAST_ONE,
  "train.steps_per_call": AT_LEAST_ONE,
  "eval.batch_size": AT_LEAST_ONE,
  "eval.nll_samples": AT_LEAST_ONE,
  "eval.num_examples": NOT_NEGATIVE,
  "sample.num_images": AT_LEAST_ONE,
  "benchmark.phase": one_of("train", "eval", "sample"),
  "benchmark.batch_sizes": COUNTS,
  "benchmark.measurements": ("at least 20", lambda value: value >= 20),
}


def check(config: ConfigDict) -> None:
  """Raises UsageError for the first value that is impossible whatever the data."""
  for key, value in flatten(config.to_dict()).items():
    if key in RULES:
      expected, holds = RULES[key]
      if not holds(value):
        raise UsageError(f"{key} must be {expected}, not {value!r}")
  train = config.train
  if 0 < train.decay_end <= train.decay_start:
    raise UsageError(f"train.decay_end = {train.decay_end} must come after train.decay_start = {train.decay_start}")
  if train.importance_samples > 1 and train.free_bits > 0:
    raise UsageError("train.free_bits belongs to the ELBO: it must be 0 where train.importance_samples is above 1")
  if config.model.get("remat", "none") != "none" and config.model.get("weight_gradients") == "after":
    raise UsageError("model.weight_gradients = 'after' keeps what model.remat would compute again: drop one of the two")
  if config.data.placement in ("host", "disk") and train.num_seeds > 1:
    raise UsageError(f"data.placement = {config.data.placement!r} feeds one order of images: train.num_seeds must be 1")
  if config.seed + train.num_seeds > 2**32:
    raise UsageError(f"seed + train.num_seeds must be at most 4294967296, not {config.seed + train.num_seeds}")


def unknown_key(config: ConfigDict, keys: Iterable[str]) -> str | None:
  """A line about the first of `keys` that the config does not have, naming the nearest that it has."""
  known = list(flatten(config.to_dict()))
  sections = {key.rpartition(".")[0] for key in known}
  for key in keys:
    if key not in known and key not in sections:
      same_leaf = [other for other in known if other.rpartition(".")[2] == key.rpartition(".")[2]]
      slips = difflib.get_close_matches(key, known, n=1, cutoff=0.95)
      near = slips or same_leaf or difflib.get_close_matches(key, known, n=1, cutoff=0.0)
      return f"unknown config key {key!r}: the nearest is {near[0]!r}; --mode=show prints all of them"
  return None


def differences(saved: ConfigDict, asked: ConfigDict, ignore: tuple[str, ...] = ()) -> list[str]:
  """Lines 'key: saved -> asked' for all that makes the two different experiments, apart from the keys to ignore."""
  before, after = flatten(saved.to_dict()), flatten(asked.to_dict())
  keys = [key for key in {**before, **after} if not key.startswith((*FREE, *ignore))]
  return [
    f"{key}: {before.get(key, 'absent')!r} -> {after.get(key, 'absent')!r}"
    for key in keys
    if before.get(key) != after.get(key)
  ]


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
  """{"train": {"epochs": 1}} becomes {"train.epochs": 1}."""
  leaves = {}
  for name, value in tree.items():
    leaves |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
  return leaves


def to_json(config: ConfigDict) -> str:
  return json.dumps(config.to_dict(), indent=2) + "\n"


def read(path: Path) -> ConfigDict:
  """The config in a config.json, without its origins; lists come back as the tuples they were.

  Raises:
    RunError: the file cannot be read or is no config.
  """

  def with_tuples(tree: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in tree.items()}

  try:
    tree = json.loads(path.read_text(), object_hook=with_tuples)
    config = ConfigDict({name: value for name, value in tree.items() if name != ORIGINS})
    check(config)
    missing = [key for key in RULES if not key.startswith("model.") and key not in flatten(config.to_dict())]
    if missing:
      raise UsageError(f"it has no {missing[0]}")
    return config
  except (OSError, ValueError, TypeError, AttributeError, KeyError, UsageError) as error:
    raise RunError(f"{path} is damaged or of another version ({error}): restore it or choose another workdir") from None
