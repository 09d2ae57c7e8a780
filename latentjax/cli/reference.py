"""Reference of all config keys: the last part of `--help`, and docs/config_keys.md.

python -m latentjax.cli.reference > docs/config_keys.md
"""

from collections.abc import Iterable
from typing import Any

from ml_collections import ConfigDict

from latentjax import models
from latentjax.config.schema import KEYS, Key, flatten

HEADER = """# Config keys

Set a key by `--config.KEY=VALUE` or in a [config file](configs.md). `python -m latentjax.cli.reference` prints this
page.
"""


def describe_keys(config: ConfigDict) -> Iterable[str]:
  """Yields a line for every key of a config: its value, its allowed values and its help."""
  values = flatten(config.to_dict())
  for name, key in models.config_keys(config.model.name).items():
    if name in values:
      yield f"  {f'{name}={_shown(values[name])}':<36}  {_allowed(key)}; {key.help}"


def markdown_page() -> str:
  """Returns docs/config_keys.md."""
  tables = {"All models": KEYS}
  for model in models.MODELS:
    own = {name: key for name, key in models.config_keys(model).items() if name not in KEYS}
    tables[f"`--config=configs/{model}.py`"] = own
  lines = [HEADER]
  for title, keys in tables.items():
    lines += [f"## {title}\n", "| key | default | values | meaning |", "|---|---|---|---|"]
    for name, key in keys.items():
      lines.append(f"| `{name}` | `{_shown(key.default)}` | {_allowed(key, ', ')} | {key.help} |")
    lines.append("")
  return "\n".join(lines)


def _allowed(key: Key, separator: str = " | ") -> str:
  return separator.join(key.constraint.choices) or key.constraint.text


def _shown(value: Any) -> str:
  """Returns a value as the command line takes it."""
  return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


if __name__ == "__main__":
  print(markdown_page().rstrip())
