"""Config keys: default, constraint, help and aliases of each, in one place.

`KEYS` holds the keys outside `model`. A key of `model` is a field of the model's class, declared with `key`.
"""

import dataclasses
import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from latentjax.runtime.errors import UsageError


class Constraint(NamedTuple):
  """A condition on a value."""

  text: str  # completes "it must be ..."
  holds: Callable[[Any], bool]  # may raise for a value of the wrong type
  choices: tuple[str, ...] = ()  # the allowed values, if there are only a few


def one_of(*choices: str) -> Constraint:
  return Constraint(f"one of {', '.join(choices)}", lambda value: value in choices, choices)


def integer_between(lowest: int, highest: int) -> Constraint:
  text = f"a whole number from {lowest} to {highest}"
  return Constraint(text, lambda value: _is_integer(value) and lowest <= value <= highest)


def integers_from(lowest: int, example: str) -> Constraint:
  """A tuple of one or more integers, none below `lowest`."""
  text = f"one or more whole numbers, each at least {lowest}, such as '{example}'"
  return Constraint(text, lambda values: len(values) > 0 and all(_is_integer(v) and v >= lowest for v in values))


def _is_integer(value: Any) -> bool:
  return isinstance(value, int) and not isinstance(value, bool)


AT_LEAST_ONE = Constraint("a whole number, at least 1", lambda value: _is_integer(value) and value >= 1)
NON_NEGATIVE_INTEGER = Constraint("a whole number, 0 or more", lambda value: _is_integer(value) and value >= 0)
NON_NEGATIVE = Constraint("a finite number, 0 or more", lambda value: 0 <= value < math.inf)
POSITIVE = Constraint("a finite number above 0", lambda value: 0 < value < math.inf)
FINITE = Constraint("a finite number", math.isfinite)
FRACTION = Constraint("a number, at least 0 and below 1", lambda value: 0 <= value < 1)
BOOLEAN = Constraint("True or False", lambda value: isinstance(value, bool))
SIZES = integers_from(1, "(512, 256)")
EPOCH = integer_between(0, 10**6)
LIKELIHOODS_OF_LEVELS = ("discretized_logistic", "logistic_mixture")  # values of `model.likelihood`, of 256 levels
EPOCHS = Constraint("a number from 0 to 1000000", lambda value: 0 <= value <= 10**6)


@dataclasses.dataclass(frozen=True)
class Key:
  """One config key."""

  default: Any
  constraint: Constraint
  help: str
  aliases: tuple[str, ...] = ()  # other names, as in other libraries, for the hint after an unknown key
  identity: bool = True  # False if it changes only the length or speed of a run, or what is evaluated and drawn


def key(default: Any, constraint: Constraint, help: str, aliases: tuple[str, ...] = (), identity: bool = True) -> Any:
  """Returns a dataclass field that is also a config key of its model, `model.FIELD`."""
  return dataclasses.field(default=default, metadata={"key": Key(default, constraint, help, aliases, identity)})


def field_keys(model: Any) -> dict[str, Key]:
  """Returns the keys among the fields of a model or its class, by field."""
  return {field.name: field.metadata["key"] for field in dataclasses.fields(model) if "key" in field.metadata}


KEYS: dict[str, Key] = {
  "seed": Key(
    0,
    integer_between(0, 2**32 - 1),
    "seed of initialization, image order, binarization and noise",
    ("random_seed", "rng", "rng_seed"),
  ),
  "precision": Key(
    "float32",
    one_of("float32", "tensorfloat32", "bfloat16"),
    "precision of matrix products; everything else is float32",
    ("dtype", "matmul_precision"),
  ),
  "compilation_cache": Key(
    True,
    BOOLEAN,
    "keep compiled programs between runs, in the user's cache directory",
    ("compile_cache",),
    identity=False,
  ),
  "data.name": Key(
    "mnist",
    Constraint("a name or a path, in UTF-8", lambda value: value.encode() != b""),
    "a standard dataset or one of TFDS; mnist_digits, colour_digits or photo_patches (no download); a folder; an .npz",
    ("dataset", "data"),
  ),
  "data.image_size": Key(
    0, integer_between(0, 4096), "crop and resize your own images to this many pixels a side; 0 keeps their size"
  ),
  "data.binarization": Key(
    "dynamic",
    one_of("dynamic", "static", "none"),
    "dynamic: sampled for every batch; static: sampled once; none: intensities as they are",
    ("binarize", "binarisation", "binary"),
  ),
  "data.placement": Key(
    "auto",
    one_of("auto", "device", "host"),
    "memory that holds the training images; auto: the device's if they fit",
    identity=False,
  ),
  "train.batch_size": Key(128, AT_LEAST_ONE, "images per step", ("bs", "batch", "minibatch", "batchsize")),
  "train.epochs": Key(
    60,
    integer_between(1, 10**6),
    "passes over the training images",
    ("num_epochs", "n_epochs", "max_epochs", "epoch"),
    identity=False,
  ),
  "train.optimizer": Key(
    "adam",
    one_of("adam", "muon"),
    "muon: orthogonalized updates of matrices, better per epoch and slower per step",
    ("optim", "opt", "optimiser"),
  ),
  "train.learning_rate": Key(1e-3, POSITIVE, "peak learning rate", ("lr", "rate", "step_size", "eta")),
  "train.warmup_epochs": Key(
    0.0, EPOCHS, "epochs over which the learning rate rises to its peak", ("warmup", "lr_warmup", "warmup_steps")
  ),
  "train.schedule": Key(
    "cosine",
    one_of("constant", "linear", "cosine"),
    "decay of the learning rate from decay_start to decay_end",
    ("lr_schedule", "scheduler", "decay"),
  ),
  "train.decay_start": Key(0, EPOCH, "epoch at which the learning rate starts to fall"),
  "train.decay_end": Key(0, EPOCH, "epoch at which the learning rate reaches 0; 0: the last one"),
  "train.adam_b1": Key(
    0.9, FRACTION, "Adam's decay rate for the mean of gradients; b2 is 0.999", ("b1", "beta1", "momentum")
  ),
  "train.clip_norm": Key(
    10.0,
    NON_NEGATIVE,
    "largest global norm of gradients; 0: no clipping",
    ("clip", "grad_clip", "gradient_clip", "max_grad_norm", "clip_grad"),
  ),
  "train.weight_decay": Key(
    0.0,
    NON_NEGATIVE,
    "decoupled weight decay of kernels, multiplied by the learning rate; 0: none",
    ("wd", "l2", "regularization", "regularisation"),
  ),
  "train.ema_decay": Key(
    0.999, FRACTION, "decay of the moving average of weights for evaluation; 0: no average", ("ema", "polyak")
  ),
  "train.beta": Key(1.0, NON_NEGATIVE, "weight of the KL after its warmup", ("kl_weight", "beta_vae")),
  "train.kl_warmup_epochs": Key(
    0.0, EPOCHS, "epochs over which the weight of the KL rises from 0", ("kl_warmup", "annealing")
  ),
  "train.free_bits": Key(0.0, NON_NEGATIVE, "nats of KL per latent group that cost nothing; 0: none"),
  "train.iwae_samples": Key(
    1,
    AT_LEAST_ONE,
    "importance samples K; above 1, training maximizes the importance-weighted bound",
    ("importance_samples", "iwae", "num_importance_samples", "importance"),
  ),
  "train.iwae_start_epoch": Key(
    0, EPOCH, "epoch from which the importance-weighted bound replaces the ELBO", ("importance_start",)
  ),
  "train.num_seeds": Key(
    1, AT_LEAST_ONE, "number of models, seeded seed, seed + 1, ..., trained in one program", ("seeds", "n_seeds")
  ),
  "train.steps_per_call": Key(
    50, AT_LEAST_ONE, "maximum number of optimizer steps per dispatch and progress update", identity=False
  ),
  "train.early_stopping_patience": Key(
    0,
    NON_NEGATIVE_INTEGER,
    "epochs without a better validation bound after which training stops; 0: never",
    ("patience", "early_stopping"),
    identity=False,
  ),
  "train.log_images_every": Key(
    10,
    NON_NEGATIVE_INTEGER,
    "epochs between samples and reconstructions in TensorBoard; 0: never",
    ("pictures_every",),
    identity=False,
  ),
  "train.profile_steps": Key(
    0, NON_NEGATIVE_INTEGER, "first steps to profile for TensorBoard, in whole dispatches; 0: none", identity=False
  ),
  "eval.batch_size": Key(500, AT_LEAST_ONE, "images per batch of validation and evaluation", identity=False),
  "eval.nll_samples": Key(
    100, AT_LEAST_ONE, "importance samples K of the test NLL", ("k", "is_samples", "num_samples"), identity=False
  ),
  "eval.num_examples": Key(
    0,
    NON_NEGATIVE_INTEGER,
    "images of each split to evaluate, for a quick look; 0: all",
    ("max_examples", "limit"),
    identity=False,
  ),
  "encode.nll_samples": Key(
    0,
    NON_NEGATIVE_INTEGER,
    "importance samples K of each image's log-likelihood in latents.npz; 0: leave it out",
    identity=False,
  ),
  "sample.num_images": Key(64, AT_LEAST_ONE, "images per grid", identity=False),
  "benchmark.phase": Key(
    "train",
    one_of("train", "eval", "nll", "sample"),
    "phase to measure; nll: the importance-weighted bound",
    identity=False,
  ),
  "benchmark.batch_sizes": Key((128,), SIZES, "batch sizes, one measurement each", identity=False),
  "benchmark.num_seeds": Key(
    (0,),
    integers_from(0, "(1, 8, 32)"),
    "numbers of seeds trained together, one measurement each; 0: train.num_seeds",
    identity=False,
  ),
  "benchmark.measurements": Key(
    30,
    Constraint("a whole number, at least 20", lambda value: _is_integer(value) and value >= 20),
    "timings per measurement, of which the median is reported",
    identity=False,
  ),
}

NON_IDENTITY_KEYS = tuple(name for name, spec in KEYS.items() if not spec.identity)


def default_config() -> ConfigDict:
  """Returns the defaults of `KEYS`; for a model's config see `models.default_config`."""
  tree: dict[str, Any] = {}
  for name, spec in KEYS.items():
    section, _, leaf = name.rpartition(".")
    (tree.setdefault(section, {}) if section else tree)[leaf] = spec.default
  return ConfigDict(tree, type_safe=False)  # the checks name a wrong type, and numbers of NumPy are accepted


def check_keys(config: ConfigDict) -> None:
  """Raises UsageError for a missing or unknown key outside `model`; for `model` see `models.check_model`."""
  names, known = flatten(config.to_dict()), ("model.name", *KEYS)
  for name in known:
    if name not in names:
      raise UsageError(f"{name} is missing.")
  for name in names:
    if name not in known and not name.startswith("model."):
      raise UsageError(f"Unknown config key {name!r}. Did you mean {nearest_key(name, KEYS)!r}?")


def check_config(config: ConfigDict) -> None:
  """Raises UsageError for the first invalid value outside `model`; for `model` see `models.check_model`."""
  values = flatten(config.to_dict())
  check_values(values, {name: spec for name, spec in KEYS.items() if name in values})
  likelihood = config.model.get("likelihood")
  if likelihood in LIKELIHOODS_OF_LEVELS and config.data.binarization != "none":
    raise UsageError(
      f"model.likelihood = {likelihood!r} needs pixels of 256 values, and data.binarization ="
      f" {config.data.binarization!r} leaves two. Set data.binarization = 'none', or model.likelihood = 'bernoulli'."
    )
  train = config.train
  if 0 < train.decay_end <= train.decay_start:
    raise UsageError(f"train.decay_end = {train.decay_end} must come after train.decay_start = {train.decay_start}.")
  if train.iwae_samples > 1 and train.free_bits > 0:
    raise UsageError("train.free_bits applies to the ELBO only. Set it to 0, or train.iwae_samples to 1.")
  if config.data.placement == "host" and train.num_seeds > 1:
    raise UsageError("data.placement = 'host' supports one seed only. Set train.num_seeds to 1.")
  end = config.seed + max(train.num_seeds, *config.benchmark.num_seeds)
  if end > 2**32:
    raise UsageError(f"seed plus the number of seeds must be at most 4294967296, not {end}.")
  if config.benchmark.phase in ("nll", "sample") and max(config.benchmark.num_seeds) > 1:
    raise UsageError(
      f"benchmark.phase = {config.benchmark.phase!r} measures one seed only. Set benchmark.num_seeds to 1."
    )


def check_values(values: Mapping[str, Any], keys: Mapping[str, Key]) -> None:
  """Raises UsageError for the first of `keys` whose value violates its constraint."""
  for name, spec in keys.items():
    try:
      valid = spec.constraint.holds(values[name])
    except (TypeError, AttributeError, ValueError):  # of the wrong type, or a path that is not UTF-8
      valid = False
    if not valid:
      raise UsageError(f"{name} must be {spec.constraint.text}, not {values[name]!r}.")


def nearest_key(name: str, keys: Mapping[str, Key], others: Iterable[str] = ()) -> str:
  """Returns the most likely intended key: a typo, else the same last part or an alias, else the closest spelling.

  Args:
    others: Further candidates, which have no aliases.
  """
  words = {other: (other.rpartition(".")[2], *spec.aliases) for other, spec in keys.items()}
  words |= {other: (other,) for other in others}
  leaf = name.rpartition(".")[2].lower()
  typos = difflib.get_close_matches(name, words, n=1, cutoff=0.95)
  meant = [other for other in words if leaf in words[other]]
  meant.sort(key=lambda other: not other.startswith("train."))
  leaves = {words[other][0]: other for other in reversed(words)}
  spelled = [leaves[other] for other in difflib.get_close_matches(leaf, leaves, n=1, cutoff=0.8)]
  return [*typos, *meant, *spelled, *difflib.get_close_matches(name, words, n=1, cutoff=0.0)][0]


def differences(saved: ConfigDict, requested: ConfigDict, ignore: Iterable[str] = ()) -> list[str]:
  """Returns a line 'key: saved -> requested' for every key, but those to ignore, in which two configs differ."""
  before, after = flatten(saved.to_dict()), flatten(requested.to_dict())
  shown = [{name: repr(value) for name, value in values.items()} for values in (before, after)]
  return [
    f"{name}: {' -> '.join(values.get(name, 'absent') for values in shown)}"
    for name in {**before, **after}
    if name not in ignore and before.get(name) != after.get(name)
  ]


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  """Turns {"train": {"epochs": 1}} into {"train.epochs": 1}."""
  leaves = {}
  for name, value in tree.items():
    leaves |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
  return leaves


def single_seed_config(config: ConfigDict, index: int) -> ConfigDict:
  """Returns the config that trains only the seed `index` of a run of several seeds."""
  config = config.copy_and_resolve_references()
  config.seed += index
  config.train.num_seeds = 1
  return config
