"""Changes to a config on the command line: --config.KEY=VALUE or --config.KEY VALUE."""

import re
from collections.abc import Collection, Mapping, Sequence

from absl import flags
from ml_collections import ConfigDict, config_flags

from latentjax import models
from latentjax.config.schema import Key, nearest_key
from latentjax.runtime.errors import UsageError

OVERRIDE = re.compile(r"--?(?:no)?config\.([^=]+)")


def split_words(args: Sequence[str]) -> tuple[list[str], list[str]]:
  """Splits arguments into overrides (or unknown flags), all as --KEY=VALUE if they have a value, and other words."""
  keys = {key: spec for name in models.MODELS for key, spec in models.config_keys(name).items()}
  booleans = [key for key, spec in keys.items() if isinstance(spec.default, bool)]
  options, words = [], []
  rest = iter(args)
  for arg in rest:
    override = OVERRIDE.match(arg)
    if not arg.startswith("-"):
      words.append(arg)
    elif "=" in arg or (override and override[1] in booleans):
      options.append(arg)
    else:
      options.append(f"{arg}={next(rest, '')}")
  return options, words


def apply_overrides(config: ConfigDict, args: Sequence[str], own_flags: Collection[str]) -> set[str]:
  """Changes a config in place and returns the changed keys; raises UsageError for an argument that is no override.

  `args` are those of `split_words`. The program's own flags may be suggested for a mistyped one.
  """
  keys = models.config_keys(config.model.name)
  last: dict[str, str] = {}  # argument by key: the last of several, because ml_collections would concatenate tuples
  for arg in args:
    override = OVERRIDE.match(arg)
    if override is None:
      raise UsageError(unknown_flag_message(arg, own_flags, keys))
    name = override[1]
    if unknown := models.unknown_key(config, [name]):
      raise UsageError(unknown)
    last[name] = arg
  for name, arg in last.items():
    flag_values = flags.FlagValues()
    try:
      config_flags.DEFINE_config_dict("config", config, flag_values=flag_values, sys_argv=[arg])
      flag_values(["", arg])
    except (flags.Error, ValueError, TypeError):
      raise UsageError(f"{name} must be {keys[name].constraint.text}, not {arg.partition('=')[2]!r}.") from None
  return set(last)


def unknown_flag_message(arg: str, own_flags: Collection[str], keys: Mapping[str, Key]) -> str:
  """Returns a message about an argument that is neither a flag nor an override of one of `keys`."""
  name, _, value = arg.lstrip("-").partition("=")
  near = nearest_key(name, keys, own_flags)
  flag = f"--{near}" if near in own_flags else f"--config.{near}"
  return f"Unknown flag --{name}. Did you mean {flag}{f'={value}' if value else ''}? --help lists all flags."
