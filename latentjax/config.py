"""What a config may say, and what makes two of them different experiments."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict

from latentjax.errors import UsageError
from latentjax.synonyms import nearest

# Keys and sections that say how long to train, how fast, and what to evaluate or draw, not which experiment it is.
FREE = (
  "compile_cache",
  "train.epochs",
  "train.patience",
  "train.pictures_every",
  "train.profile_steps",
  "train.steps_per_call",
  "data.placement",
  "eval",
  "encode",
  "sample",
  "benchmark",
)

KINDS = {bool: "True or False", int: "a whole number", float: "a number"}  # what a key takes, by the type of its value
Rule = tuple[str, Callable[[Any], bool]]


def is_whole(value: Any) -> bool:
  return isinstance(value, int) and not isinstance(value, bool)


def is_text(value: Any) -> bool:
  try:
    return value.encode() != b""
  except (AttributeError, UnicodeEncodeError):
    return False


def one_of(*choices: str) -> Rule:
  return f"one of {', '.join(choices)}", lambda value: value in choices


def whole(lowest: int, highest: int) -> Rule:
  return f"a whole number from {lowest} to {highest}", lambda value: is_whole(value) and lowest <= value <= highest


AT_LEAST_ONE: Rule = ("a whole number, at least 1", lambda value: is_whole(value) and value >= 1)
WHOLE: Rule = ("a whole number, 0 or more", lambda value: is_whole(value) and value >= 0)
NOT_NEGATIVE: Rule = ("a finite number, 0 or more", lambda value: 0 <= value < math.inf)
POSITIVE: Rule = ("a finite number above 0", lambda value: 0 < value < math.inf)
FINITE: Rule = ("a finite number", math.isfinite)
EPOCHS: Rule = ("from 0 to 1000000", lambda value: 0 <= value <= 10**6)
FRACTION: Rule = ("at least 0 and below 1", lambda value: 0 <= value < 1)
BOOLEAN: Rule = ("True or False", lambda value: isinstance(value, bool))
COUNTS: Rule = (
  "one or more whole numbers, each at least 1, such as '(512, 256)'",
  lambda value: len(value) > 0 and all(is_whole(count) and count >= 1 for count in value),
)

RULES: dict[str, Rule] = {  # of all keys but those of `model`, whose rules stand beside its fields
  "seed": whole(0, 2**32 - 1),
  "compile_cache": BOOLEAN,
  "precision": one_of("float32", "tensorfloat32", "bfloat16"),
  "data.name": ("a name or a path, in UTF-8", is_text),
  "data.image_size": whole(0, 4096),
  "data.placement": one_of("auto", "device", "host"),
  "data.binarization": one_of("dynamic", "static", "none"),
  "train.batch_size": AT_LEAST_ONE,
  "train.epochs": whole(1, 10**6),
  "train.optimizer": one_of("adam", "muon"),
  "train.learning_rate": POSITIVE,
  "train.schedule": one_of("constant", "linear", "cosine"),
  "train.decay_start": EPOCHS,
  "train.decay_end": EPOCHS,
  "train.adam_b1": FRACTION,
  "train.clip_norm": NOT_NEGATIVE,
  "train.weight_decay": NOT_NEGATIVE,
  "train.ema_decay": FRACTION,
  "train.beta": NOT_NEGATIVE,
  "train.warmup_epochs": EPOCHS,
  "train.kl_warmup_epochs": EPOCHS,
  "train.free_bits": NOT_NEGATIVE,
  "train.importance_samples": AT_LEAST_ONE,
  "train.importance_start": EPOCHS,
  "train.num_seeds": AT_LEAST_ONE,
  "train.steps_per_call": AT_LEAST_ONE,
  "train.patience": WHOLE,
  "train.pictures_every": WHOLE,
  "train.profile_steps": WHOLE,
  "eval.batch_size": AT_LEAST_ONE,
  "eval.nll_samples": AT_LEAST_ONE,
  "eval.num_examples": WHOLE,
  "encode.nll_samples": WHOLE,
  "sample.num_images": AT_LEAST_ONE,
  "benchmark.phase": one_of("train", "eval", "sample"),
  "benchmark.batch_sizes": COUNTS,
  "benchmark.num_seeds": (
    "one or more whole numbers, each 0 or more, such as '(1, 8, 32)'",
    lambda value: len(value) > 0 and all(is_whole(count) and count >= 0 for count in value),
  ),
  "benchmark.measurements": ("a whole number, at least 20", lambda value: is_whole(value) and value >= 20),
}


def check(config: ConfigDict) -> None:
  """Raises UsageError for the first value that is impossible whatever the data; a model's own: `models.check`."""
  for key, value in flatten(config.to_dict()).items():
    if key in RULES:
      expected, _ = RULES[key]
      if not obeys(value, RULES[key]):
        raise UsageError(f"{key} must be {expected}, not {value!r}")
  if config.model.get("likelihood") == "discretized_logistic" and config.data.binarization != "none":
    raise UsageError(
      "model.likelihood = 'discretized_logistic' is for pixels of 256 values, and data.binarization ="
      f" {config.data.binarization!r} leaves them two: set it to 'none', or take 'bernoulli'"
    )
  train = config.train
  if 0 < train.decay_end <= train.decay_start:
    raise UsageError(f"train.decay_end = {train.decay_end} must come after train.decay_start = {train.decay_start}")
  if train.importance_samples > 1 and train.free_bits > 0:
    raise UsageError("train.free_bits belongs to the ELBO: it must be 0 where train.importance_samples is above 1")
  if config.data.placement == "host" and train.num_seeds > 1:
    raise UsageError("data.placement = 'host' feeds one order of images: train.num_seeds must be 1")
  after_last = config.seed + max(train.num_seeds, *config.benchmark.num_seeds)
  if after_last > 2**32:
    raise UsageError(f"seed and the number of seeds must together be at most 4294967296, not {after_last}")
  if config.benchmark.phase == "sample" and max(config.benchmark.num_seeds) > 1:
    raise UsageError("benchmark.num_seeds is for phases train and eval: samples are those of one seed")


def reworded(message: str, config: ConfigDict) -> str:
  """What absl says of a value of another type than its key's, in the words of a config; another message as it is."""
  match = re.fullmatch(r"flag --config\.([\w.]+)=(.*?): .*", message)
  kind = match and KINDS.get(type(flatten(config.to_dict()).get(match[1])))
  return f"{match[1]} must be {kind}, not {match[2]!r}" if kind else message


def obeys(value: Any, rule: Rule) -> bool:
  """Whether a value may stand where the rule holds; one of another type may not."""
  try:
    return bool(rule[1](value))
  except TypeError:
    return False


def unknown_key(config: ConfigDict, keys: Iterable[str]) -> str | None:
  """A line about the first of `keys` that the config does not have, or that is a section of it."""
  known = list(flatten(config.to_dict()))
  for key in keys:
    of_section = [name for name in known if name.startswith(f"{key}.")]
    if of_section:
      return f"{key} is a section of the config: give one of its keys, {', '.join(of_section)}"
    if key not in known:
      return f"unknown config key {key!r}: the nearest is {nearest(key, known)!r}; --help prints all of them"
  return None


def differences(
  saved: ConfigDict, asked: ConfigDict, ignore: tuple[str, ...] = (), free: tuple[str, ...] = FREE
) -> list[str]:
  """Lines 'key: saved -> asked' for all that makes the two different experiments, apart from what is to be ignored.

  Args:
    ignore: keys and sections, as in FREE.
    free: those that make no other experiment; where none do, all differences are listed.
  """
  before, after = flatten(saved.to_dict()), flatten(asked.to_dict())
  spared = {*free, *ignore}
  keys = [key for key in {**before, **after} if spared.isdisjoint(sections(key))]
  shown = [({key: repr(value) for key, value in of.items()}) for of in (before, after)]
  return [
    f"{key}: {' -> '.join(of.get(key, 'absent') for of in shown)}" for key in keys if before.get(key) != after.get(key)
  ]


def sections(key: str) -> list[str]:
  """The key and all sections that it is in: train.epochs, and train."""
  parts = key.split(".")
  return [".".join(parts[: length + 1]) for length in range(len(parts))]


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
  """{"train": {"epochs": 1}} becomes {"train.epochs": 1}."""
  leaves = {}
  for name, value in tree.items():
    leaves |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
  return leaves


def require_complete(config: ConfigDict) -> None:
  """Raises UsageError if a key is missing or is none; a model's own: `models.check`."""
  keys, known = flatten(config.to_dict()), ("model.name", *RULES)
  for key in known:
    if key not in keys:
      raise UsageError(f"it has no {key}")
  for key in keys:
    if key not in known and not key.startswith("model."):
      raise UsageError(f"it has {key}, which is no key: the nearest is {nearest(key, known)}")


def described(config: ConfigDict, rules: Mapping[str, Rule], meanings: Mapping[str, str]) -> list[str]:
  """A line for every key: its value, what may stand there, and what it means.

  Args:
    rules: of the model's own keys.
    meanings: what the config files say of keys.
  """
  rules = RULES | {f"model.{field}": rule for field, rule in rules.items()}
  lines = []
  for key, value in flatten(config.to_dict()).items():
    allowed, meaning = rules[key][0] if key in rules else "", meanings.get(key, "")
    choices = allowed.removeprefix("one of ").replace(", ", " | ") if allowed.startswith("one of ") else allowed
    meaning = meaning.removeprefix(choices).lstrip(":, ")
    description = "; ".join(part for part in (choices, meaning) if part)
    shown = ",".join(map(str, value)) if isinstance(value, tuple) else value
    lines.append(f"  {f'{key}={shown}':<36}  {description}".rstrip())
  return lines
