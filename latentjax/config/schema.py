"""Config keys: defaults, constraints, help, and which of them identify an experiment."""

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from latentjax.runtime.errors import UsageError

# Keys and sections that say how long to train, how fast, and what to evaluate or draw, not which experiment it is.
NON_IDENTITY_KEYS = (
  "compilation_cache",
  "train.epochs",
  "train.early_stopping_patience",
  "train.log_images_every",
  "train.profile_steps",
  "train.steps_per_call",
  "data.placement",
  "eval",
  "encode",
  "sample",
  "benchmark",
)


TYPE_NAMES = {
  bool: "True or False",
  int: "a whole number",
  float: "a number",
}  # what a key takes, by the type of its value

Constraint = tuple[str, Callable[[Any], bool]]


def is_integer(value: Any) -> bool:
  return isinstance(value, int) and not isinstance(value, bool)


def is_text(value: Any) -> bool:
  try:
    return value.encode() != b""
  except (AttributeError, UnicodeEncodeError):
    return False


def one_of(*choices: str) -> Constraint:
  return f"one of {', '.join(choices)}", lambda value: value in choices


def integer_between(lowest: int, highest: int) -> Constraint:
  return f"a whole number from {lowest} to {highest}", lambda value: is_integer(value) and lowest <= value <= highest


AT_LEAST_ONE: Constraint = ("a whole number, at least 1", lambda value: is_integer(value) and value >= 1)

NON_NEGATIVE_INTEGER: Constraint = ("a whole number, 0 or more", lambda value: is_integer(value) and value >= 0)

NON_NEGATIVE: Constraint = ("a finite number, 0 or more", lambda value: 0 <= value < math.inf)

POSITIVE: Constraint = ("a finite number above 0", lambda value: 0 < value < math.inf)

FINITE: Constraint = ("a finite number", math.isfinite)

EPOCHS: Constraint = ("from 0 to 1000000", lambda value: 0 <= value <= 10**6)

FRACTION: Constraint = ("at least 0 and below 1", lambda value: 0 <= value < 1)

BOOLEAN: Constraint = ("True or False", lambda value: isinstance(value, bool))

COUNTS: Constraint = (
  "one or more whole numbers, each at least 1, such as '(512, 256)'",
  lambda value: len(value) > 0 and all(is_integer(count) and count >= 1 for count in value),
)


RULES: dict[str, Constraint] = {  # of all keys but those of `model`, whose rules stand beside its fields
  "seed": integer_between(0, 2**32 - 1),
  "compilation_cache": BOOLEAN,
  "precision": one_of("float32", "tensorfloat32", "bfloat16"),
  "data.name": ("a name or a path, in UTF-8", is_text),
  "data.image_size": integer_between(0, 4096),
  "data.placement": one_of("auto", "device", "host"),
  "data.binarization": one_of("dynamic", "static", "none"),
  "train.batch_size": AT_LEAST_ONE,
  "train.epochs": integer_between(1, 10**6),
  "train.optimizer": one_of("adam", "muon"),
  "train.learning_rate": POSITIVE,
  "train.schedule": one_of("constant", "linear", "cosine"),
  "train.decay_start": EPOCHS,
  "train.decay_end": EPOCHS,
  "train.adam_b1": FRACTION,
  "train.clip_norm": NON_NEGATIVE,
  "train.weight_decay": NON_NEGATIVE,
  "train.ema_decay": FRACTION,
  "train.beta": NON_NEGATIVE,
  "train.warmup_epochs": EPOCHS,
  "train.kl_warmup_epochs": EPOCHS,
  "train.free_bits": NON_NEGATIVE,
  "train.iwae_samples": AT_LEAST_ONE,
  "train.iwae_start_epoch": EPOCHS,
  "train.num_seeds": AT_LEAST_ONE,
  "train.steps_per_call": AT_LEAST_ONE,
  "train.early_stopping_patience": NON_NEGATIVE_INTEGER,
  "train.log_images_every": NON_NEGATIVE_INTEGER,
  "train.profile_steps": NON_NEGATIVE_INTEGER,
  "eval.batch_size": AT_LEAST_ONE,
  "eval.nll_samples": AT_LEAST_ONE,
  "eval.num_examples": NON_NEGATIVE_INTEGER,
  "encode.nll_samples": NON_NEGATIVE_INTEGER,
  "sample.num_images": AT_LEAST_ONE,
  "benchmark.phase": one_of("train", "eval", "sample"),
  "benchmark.batch_sizes": COUNTS,
  "benchmark.num_seeds": (
    "one or more whole numbers, each 0 or more, such as '(1, 8, 32)'",
    lambda value: len(value) > 0 and all(is_integer(count) and count >= 0 for count in value),
  ),
  "benchmark.measurements": ("a whole number, at least 20", lambda value: is_integer(value) and value >= 20),
}


def check_config(config: ConfigDict) -> None:
  """Raises UsageError for the first value that is impossible whatever the data; a model's own: `models.check`."""
  for key, value in flatten(config.to_dict()).items():
    if key in RULES:
      expected, _ = RULES[key]
      if not satisfies(value, RULES[key]):
        raise UsageError(f"{key} must be {expected}, not {value!r}")
  if config.model.get("likelihood") == "discretized_logistic" and config.data.binarization != "none":
    raise UsageError(
      "model.likelihood = 'discretized_logistic' is for pixels of 256 values, and data.binarization ="
      f" {config.data.binarization!r} leaves them two: set it to 'none', or take 'bernoulli'"
    )
  train = config.train
  if 0 < train.decay_end <= train.decay_start:
    raise UsageError(f"train.decay_end = {train.decay_end} must come after train.decay_start = {train.decay_start}")
  if train.iwae_samples > 1 and train.free_bits > 0:
    raise UsageError("train.free_bits belongs to the ELBO: it must be 0 where train.iwae_samples is above 1")
  if config.data.placement == "host" and train.num_seeds > 1:
    raise UsageError("data.placement = 'host' feeds one order of images: train.num_seeds must be 1")
  after_last = config.seed + max(train.num_seeds, *config.benchmark.num_seeds)
  if after_last > 2**32:
    raise UsageError(f"seed and the number of seeds must together be at most 4294967296, not {after_last}")
  if config.benchmark.phase == "sample" and max(config.benchmark.num_seeds) > 1:
    raise UsageError("benchmark.num_seeds is for phases train and eval: samples are those of one seed")


def friendly_flag_error(message: str, config: ConfigDict) -> str:
  """What absl says of a value of another type than its key's, in the words of a config; another message as it is."""
  match = re.fullmatch(r"flag --config\.([\w.]+)=(.*?): .*", message)
  kind = match and TYPE_NAMES.get(type(flatten(config.to_dict()).get(match[1])))
  return f"{match[1]} must be {kind}, not {match[2]!r}" if kind else message


def satisfies(value: Any, rule: Constraint) -> bool:
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
      return f"unknown config key {key!r}: the nearest is {nearest_key(key, known)!r}; --help prints all of them"
  return None


def differences(
  saved: ConfigDict, asked: ConfigDict, ignore: tuple[str, ...] = (), free: tuple[str, ...] = NON_IDENTITY_KEYS
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
      raise UsageError(f"it has {key}, which is no key: the nearest is {nearest_key(key, known)}")


def describe_keys(config: ConfigDict, rules: Mapping[str, Constraint], meanings: Mapping[str, str]) -> list[str]:
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


# What keys are called elsewhere; those with the same last part need no entry.
ALIASES = {
  "seed": ("random_seed", "rng", "rng_seed"),
  "precision": ("dtype", "matmul_precision"),
  "data.name": ("dataset", "data"),
  "data.binarization": ("binarize", "binarisation", "binary"),
  "model.name": ("model", "arch", "architecture"),
  "model.num_steps": ("t", "steps", "timesteps", "time_steps", "glimpses", "num_glimpses", "seq_len"),
  "model.read_size": ("n", "read", "read_n"),
  "model.write_size": ("write", "write_n"),
  "model.hidden_dim": ("h", "h_dim", "hidden", "hidden_size", "enc_size", "dec_size", "lstm_size"),
  "model.hidden_dims": ("h", "h_dim", "hidden", "hidden_sizes", "widths"),
  "model.latent_dim": ("z", "z_dim", "z_size", "latent", "latent_size", "latents"),
  "model.latent_dims": ("z", "z_dim", "z_size", "latent", "latent_sizes", "latents"),
  "train.batch_size": ("bs", "batch", "minibatch", "batchsize"),
  "train.epochs": ("num_epochs", "n_epochs", "max_epochs", "epoch"),
  "train.optimizer": ("optim", "opt", "optimiser"),
  "train.learning_rate": ("lr", "rate", "step_size", "eta"),
  "train.schedule": ("lr_schedule", "scheduler", "decay"),
  "train.adam_b1": ("b1", "beta1", "momentum"),
  "train.clip_norm": ("clip", "grad_clip", "gradient_clip", "max_grad_norm", "clip_grad"),
  "train.weight_decay": ("wd", "l2", "regularization", "regularisation"),
  "train.ema_decay": ("ema", "polyak"),
  "train.beta": ("kl_weight", "beta_vae"),
  "train.warmup_epochs": ("warmup", "lr_warmup", "warmup_steps"),
  "train.kl_warmup_epochs": ("kl_warmup", "annealing"),
  "train.iwae_samples": ("iwae", "num_importance_samples", "importance"),
  "train.num_seeds": ("seeds", "n_seeds"),
  "eval.nll_samples": ("k", "iwae_samples", "is_samples", "num_samples"),
  "eval.num_examples": ("max_examples", "limit"),
}


def nearest_key(key: str, known: Sequence[str]) -> str:
  """The known key that is most likely meant: by a slip, by its last part, by its meaning, by its letters."""
  leaf = key.rpartition(".")[2].lower()
  slips = difflib.get_close_matches(key, known, n=1, cutoff=0.95)
  same_leaf = [other for other in known if other.rpartition(".")[2] == leaf]
  meant = [other for other in known if leaf in ALIASES.get(other, ())]
  ranked = sorted([*same_leaf, *meant], key=lambda other: not other.startswith("train."))
  leaves = {other.rpartition(".")[2]: other for other in reversed(known)}
  spelt = [leaves[other] for other in difflib.get_close_matches(leaf, leaves, n=1, cutoff=0.8)]
  return [*slips, *ranked, *spelt, *difflib.get_close_matches(key, known, n=1, cutoff=0.0)][0]


def single_seed_config(config: ConfigDict, index: int) -> ConfigDict:
  """The config of the single run that a run of several seeds amounts to for one of them."""
  config = config.copy_and_resolve_references()
  config.seed += index
  config.train.num_seeds = 1
  return config
