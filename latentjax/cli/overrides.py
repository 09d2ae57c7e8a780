"""Changes to a config on the command line: --config.KEY=VALUE."""

import re
from collections.abc import Collection, Mapping, Sequence

from absl import flags
from ml_collections import ConfigDict, config_flags

from latentjax import models
from latentjax.config.schema import Key, flatten, nearest_key
from latentjax.runtime.errors import UsageError

OVERRIDE = re.compile(r"--?(?:no)?config\.([^=]+)")


def apply_overrides(config: ConfigDict, args: Sequence[str], own_flags: Collection[str]) -> set[str]:
  """Changes a config in place and returns the changed keys; raises UsageError for an argument that is no override.

  `args` is the command line without the program's own flags; their names may be suggested for a mistyped one.
  """
  keys, known = models.config_keys(config.model.name), flatten(config.to_dict())
  last: dict[str, str] = {}  # argument by key: the last of several, because ml_collections would concatenate tuples
  rest = iter(args)
  for arg in rest:
    override = OVERRIDE.match(arg)
    if override is None:
      raise UsageError(unknown_flag_message(arg, own_flags, keys))
    name = override[1]
    if unknown := models.unknown_key(config, [name]):
      raise UsageError(unknown)
    if "=" not in arg and not isinstance(known[name], bool):
      arg = f"{arg}={next(rest, '')}"
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
  if not arg.startswith("-"):
    return f"{arg!r} is not a flag. Flags start with -- and take their value after =."
  name, _, value = arg.lstrip("-").partition("=")
  near = nearest_key(name, keys, own_flags)
  flag = f"--{near}" if near in own_flags else f"--config.{near}"
  return f"Unknown flag --{name}. Did you mean {flag}{f'={value}' if value else ''}? --help lists all flags."
