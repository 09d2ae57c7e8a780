"""What a command line says of a config: the words --config.KEY=VALUE."""

import re
from collections.abc import Collection, Sequence

from absl import flags
from ml_collections import ConfigDict, config_flags

from latentjax.config import files
from latentjax.config.schema import flatten, friendly_flag_error, nearest_key, unknown_key
from latentjax.runtime.errors import UsageError, last_line

OVERRIDE = re.compile(r"--?(?:no)?config\.([^=]+)")


def has_overrides(words: Sequence[str]) -> bool:
  """Whether any of the words is an override."""
  return any(map(OVERRIDE.match, words))


def apply_overrides(config: ConfigDict, words: Sequence[str], own_flags: Collection[str]) -> dict[str, str]:
  """Changes a config as the command line says.

  Args:
    words: what is left of the command line without the program's own flags.
    own_flags: the names of these, for what is mistyped.

  Returns:
    The keys that it names, with what was typed.

  Raises:
    UsageError: it has no such key, the key no such value, or something else is left.
  """
  last: dict[str, str] = {}  # a value given twice takes the last, a tuple too, which ml_collections would add up
  rest = iter(words)
  for word in rest:
    override = OVERRIDE.match(word)
    if override is None:
      raise UsageError(unknown_flag_message(word, own_flags, config))
    unknown = unknown_key(config, [override[1]])
    if unknown is not None:
      raise UsageError(files.of_another_model(override[1], config) or unknown)
    key, known = override[1], flatten(config.to_dict())
    if "=" not in word and not isinstance(known[key], bool):
      word = f"{word}={next(rest, '')}"
    last.pop(key, None)
    last[key] = word
  flag_values = flags.FlagValues()
  try:
    config_flags.DEFINE_config_dict("config", config, flag_values=flag_values, sys_argv=list(last.values()))
    flag_values(["", *last.values()])
  except (flags.Error, ValueError, TypeError) as error:
    raise UsageError(friendly_flag_error(last_line(error), config)) from None
  return last


def unknown_flag_message(word: str, own_flags: Collection[str], config: ConfigDict) -> str:
  """A line about a word of the command line that is neither a flag nor an override of the config."""
  if not word.startswith("-"):
    return f"{word!r} is no flag: flags start with -- and carry their value after ="
  name, _, value = word.lstrip("-").partition("=")
  near = nearest_key(name, [*own_flags, *flatten(config.to_dict())])
  meant = f"--{near}" if near in own_flags else f"--config.{near}"
  return f"unknown flag --{name}: the nearest is {meant}{f'={value}' if value else ''}; --help prints all of them"
