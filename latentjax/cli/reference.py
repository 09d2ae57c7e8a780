"""Text of `--help` with all commands, and docs/config_keys.md with all config keys.

python -m latentjax.cli.reference > docs/config_keys.md
"""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from latentjax import models
from latentjax.config.files import CONFIGS_DIR, ResolvedConfig
from latentjax.config.schema import KEYS, Key, flatten


class Command(NamedTuple):
  """A command: its group in `--help`, the flags for which the words after it stand, and a summary."""

  group: str
  words: tuple[str, ...]
  summary: str


COMMANDS = {
  "train": Command("Train", ("config",), "trains a config, or resumes the run of a workdir"),
  "sweep": Command("Train", ("config",), "trains every run that sweep() of a config file yields"),
  "benchmark": Command("Train", ("config",), "measures time, memory and FLOPs of a training step"),
  "evaluate": Command("Look", ("workdir",), "evaluates the best checkpoint: ELBO and NLL in nats"),
  "sample": Command("Look", ("workdir",), "draws samples, reconstructions, interpolations and traversals"),
  "encode": Command("Look", ("workdir", "images"), "writes latents and ELBO of its dataset or of your images"),
  "explore": Command("Look", ("workdir",), "writes a page that runs the model in any browser"),
  "compare": Command("Look", ("workdirs",), "puts runs side by side in tables, plots and a report"),
  "export": Command("Share", ("workdir",), "writes encode, decode and sample as programs that need only JAX"),
  "show": Command("Show", ("config",), "prints a config, or how it differs from that of the --workdir"),
}
WORDS = {"config": "CONFIG", "workdir": "WORKDIR", "images": "[IMAGES]", "workdirs": "WORKDIR WORKDIR ..."}
MEANINGS = {
  "config": "CONFIG is FILE:VARIANT, such as draw:demo, or the workdir of a run.",
  "workdir": "WORKDIR is the directory of a run, or the name of a pretrained model, which is copied to runs/.",
}
OWNERS = {  # commands whose --help has a flag, if not all
  "config": set(COMMANDS) - {"compare"},
  "coordinator": {"train", "evaluate"},
  "dry_run": {"train"},
  "images": {"encode"},
  "mode": set(),
  "num_processes": {"train", "evaluate"},
  "process_id": {"train", "evaluate"},
  "version": set(),
  "workdirs": {"compare"},
}

HEADER = """# Config keys

Set a key by `--config.KEY=VALUE` or in a [config file](configs.md). `python -m latentjax.cli.reference` prints this
page.
"""


def program_name() -> str:
  """Returns the command that runs this program: `latentjax` if installed, `python main.py` in a clone."""
  names = {"main.py": "python main.py", "__main__.py": "python -m latentjax"}
  return names.get(Path(sys.argv[0]).name, "latentjax")


def usage(command: str) -> str:
  """Returns a command with its arguments, such as `encode WORKDIR [IMAGES]`."""
  return " ".join([command, *(WORDS[name] for name in COMMANDS[command].words)])


def help_text(command: str | None, flags: Mapping[str, str], chosen: ResolvedConfig) -> str:
  """Returns the text of `--help`, or of `COMMAND --help`, from a description of every flag."""
  program, overrides = program_name(), "" if command == "compare" else "[--config.KEY=VALUE ...] "
  words = COMMANDS[command].words if command else ("config", "workdir")
  usage_line = f"Usage: {program} {usage(command) if command else 'COMMAND'} {overrides}[--FLAG=VALUE ...]"
  meanings = [MEANINGS[name] for name in words if name in MEANINGS]
  if command is None:
    lines = ["Trains, evaluates, compares and shows deep latent-variable models of images."]
    lines += ["Without arguments it runs the demo.", "", usage_line]
    for group in dict.fromkeys(each.group for each in COMMANDS.values()):
      names = [name for name, each in COMMANDS.items() if each.group == group]
      lines += ["", f"{group}:", *(f"  {usage(name):<29}{COMMANDS[name].summary}" for name in names)]
    lines += ["", *meanings, f"`{program} COMMAND --help` is about one command. --mode=COMMAND is the same as COMMAND."]
    lines += [f"`{program} train vae --help` lists the variants and keys of another model."]
  else:
    lines = [usage_line, "", f"{command} {COMMANDS[command].summary}.", *meanings]
  lines += ["", "Flags:"]
  names = [name for name in sorted(flags) if command is None or command in OWNERS.get(name, COMMANDS)]
  lines += [f"  --{name:<14}  {flags[name]}" for name in names]
  if "config" in words:
    names = ", ".join(path.stem for path in sorted(CONFIGS_DIR.glob("*.py")))
    lines += ["", f"Config files in {CONFIGS_DIR}: {names}"]
    if chosen.variants:
      lines += ["", f"Variants of {chosen.shown}, as in `{program} {command or 'train'} {chosen.shown}:VARIANT`:"]
      lines += [f"  {name:<16}{summary.partition(chr(10))[0]}" for name, summary in chosen.variants.items()]
  if command != "compare":
    variant = f":{chosen.variant}" if chosen.variant else ""
    lines += ["", f"Keys of {chosen.shown}{variant}, as --config.KEY=VALUE:", *describe_keys(chosen.config)]
  return "\n".join(lines)


def describe_keys(config: ConfigDict) -> Iterable[str]:
  """Yields a heading for every section of a config and a line for every key: its value, allowed values and help."""
  values = flatten(config.to_dict())
  sections: dict[str, list[str]] = {"": []}
  for name, key in models.config_keys(config.model.name).items():
    if name in values:
      line = f"  {f'{name}={_shown(values[name])}':<36}  {_allowed(key)}; {key.help}"
      sections.setdefault(name.rpartition(".")[0], []).append(line)
  for section, lines in sections.items():
    yield from ("", f"{section}.*" if section else "General", *lines)


def markdown_page() -> str:
  """Returns docs/config_keys.md."""
  tables = {"All models": KEYS}
  for model in models.MODELS:
    own = {name: key for name, key in models.config_keys(model).items() if name not in KEYS}
    tables[f"`--config={model}`"] = own
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
