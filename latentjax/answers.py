"""What the command line answers at once: help, a config, or in what it differs from that of a run; as exit codes."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from latentjax import config as configs
from latentjax import config_file, config_json, models
from latentjax.config_file import Chosen
from latentjax.console import console
from latentjax.errors import RunError
from latentjax.workdir import record


def show(config: ConfigDict, workdir: Path | None) -> int:
  """Prints the config, or in what it differs from that of a run."""
  if workdir is None or not (workdir / "config.json").exists():
    return answer(config_json.to_json(config).rstrip())
  saved = record.read_config(workdir)
  refused = configs.differences(saved, config, models.speed_keys(saved.model))
  lines = [
    line + ("  (a different experiment: it needs another --workdir)" if line in refused else "")
    for line in configs.differences(saved, config, free=())
  ]
  return answer("\n".join(lines) or f"no difference from {workdir}")


def print_help(usage: str, flags: Mapping[str, Any], chosen: Chosen) -> int:
  """Prints how to call this, what configs there are, and every key of the one chosen.

  Args:
    usage: stands above.
    flags: absl's, by name.
  """
  lines = [usage.strip(), "", "Flags:"]
  for name in sorted({flags[name].name for name in flags}):
    flag = flags[name]
    lines.append(f"  --{name:<14}  {flag.help}{f' Default: {flag.default}.' if flag.default else ''}")
  files = [path.name for path in sorted(config_file.CONFIGS.glob("*.py")) if path.name != "common.py"]
  lines += ["", f"Config files in {config_file.CONFIGS}: {', '.join(files)}"]
  if chosen.variants:
    lines += ["", f"Variants of {chosen.shown}, as --config={chosen.shown}:VARIANT:"]
    lines += [
      f"  {name:<14}  {summary.splitlines()[0] if summary else ''}" for name, summary in chosen.variants.items()
    ]
  lines += ["", f"Keys of {chosen.shown}{f':{chosen.variant}' if chosen.variant else ''}, as --config.KEY=VALUE:"]
  name = chosen.config.model.name
  rules = {"name": configs.one_of(*models.MODELS), **(models.MODELS[name].RULES if name in models.MODELS else {})}
  lines += configs.described(chosen.config, rules, config_file.meanings(chosen.path))
  return answer("\n".join(lines))


def answer(text: str) -> int:
  """Prints what was asked for, which fails where it cannot be printed; a reader that has seen enough is no failure."""
  console.print(text)
  failure = getattr(sys.stdout, "failure", None)
  if failure is None or isinstance(failure, BrokenPipeError):
    return 0
  raise RunError(f"cannot write to the standard output ({failure.strerror})")
