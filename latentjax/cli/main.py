"""JAX, started under the environment that latentjax needs; nothing that imports it may be imported before."""

import importlib
import os
import shlex
import shutil
import sys
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from logging import getLogger
from pathlib import Path
from typing import Any

from absl import flags, logging
from ml_collections import ConfigDict

from latentjax import models
from latentjax.config import files, overrides
from latentjax.config.files import CONFIGS_DIR, ResolvedConfig, key_descriptions
from latentjax.config.schema import check_config, describe_keys, differences, one_of
from latentjax.config.serialization import to_json
from latentjax.runtime.console import console
from latentjax.runtime.errors import Interrupted, RunError, UsageError, last_line, user_message
from latentjax.runtime.fileio import cache_dir
from latentjax.runtime.signals import exit_on_signal
from latentjax.workdir import directory, records

FALSE_VALUES = ("", "0", "f", "false", "n", "no", "off")  # what JAX takes for False


def start_jax(config: ConfigDict) -> None:
  """Imports JAX under the environment that latentjax needs.

  Where the config allows it, JAX keeps what it compiles; its own variables have the last word.

  Raises:
    UsageError: a variable of JAX has no such value, or one under which nothing here can run.
  """
  if os.environ.get("JAX_DISABLE_JIT", "").lower() not in FALSE_VALUES:
    raise UsageError("JAX_DISABLE_JIT is set, and latentjax compiles all that it runs: unset it")
  if os.environ.get("JAX_ENABLE_X64", "").lower() not in FALSE_VALUES:
    os.environ["JAX_ENABLE_X64"] = "0"
    print("JAX_ENABLE_X64 is passed over: latentjax computes in float32", file=sys.stderr)
  if config.compilation_cache:
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache_dir() / "compiled"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")  # then nothing is kept
  try:
    importlib.import_module("jax")
  except ValueError as error:
    raise UsageError(f"JAX cannot start: {last_line(error)}") from None


def check_devices() -> None:
  """Raises UsageError where JAX finds none of the devices that it is told to take."""
  import jax  # not before `start`

  asked = os.environ.get("JAX_PLATFORMS", "")
  try:
    jax.devices()
  except (RuntimeError, AssertionError) as error:  # the latter is all that it says without any device
    reason = last_line(error).partition(" (set JAX_PLATFORMS")[0] if str(error) else "there is no such device here"
    raise UsageError(
      f"{f'JAX_PLATFORMS={asked}' if asked else 'JAX'}: {reason}. JAX_PLATFORMS=cpu always works; for a GPU or TPU JAX"
      " must be installed with its support, see README.md"
    ) from None


def show_config(config: ConfigDict, workdir: Path | None) -> int:
  """Prints the config, or in what it differs from that of a run."""
  if workdir is None or not (workdir / "config.json").exists():
    return print_output(to_json(config).rstrip())
  saved = records.read_config(workdir)
  refused = differences(saved, config, models.performance_keys(saved.model))
  lines = [
    line + ("  (a different experiment: it needs another --workdir)" if line in refused else "")
    for line in differences(saved, config, free=())
  ]
  return print_output("\n".join(lines) or f"no difference from {workdir}")


def print_help(usage: str, flags: Mapping[str, Any], chosen: ResolvedConfig) -> int:
  """Prints how to call this, what configs there are, and every key of the one chosen.

  Args:
    usage: stands above.
    flags: absl's, by name.
  """
  lines = [usage.strip(), "", "Flags:"]
  for name in sorted({flags[name].name for name in flags}):
    flag = flags[name]
    lines.append(f"  --{name:<14}  {flag.help}{f' Default: {flag.default}.' if flag.default else ''}")
  files = [path.name for path in sorted(CONFIGS_DIR.glob("*.py")) if path.name != "common.py"]
  lines += ["", f"Config files in {CONFIGS_DIR}: {', '.join(files)}"]
  if chosen.variants:
    lines += ["", f"Variants of {chosen.shown}, as --config={chosen.shown}:VARIANT:"]
    lines += [
      f"  {name:<14}  {summary.splitlines()[0] if summary else ''}" for name, summary in chosen.variants.items()
    ]
  lines += ["", f"Keys of {chosen.shown}{f':{chosen.variant}' if chosen.variant else ''}, as --config.KEY=VALUE:"]
  name = chosen.config.model.name
  rules = {"name": one_of(*models.MODELS), **(models.MODELS[name].RULES if name in models.MODELS else {})}
  lines += describe_keys(chosen.config, rules, key_descriptions(chosen.path))
  return print_output("\n".join(lines))


def print_output(text: str) -> int:
  """Prints what was asked for, which fails where it cannot be printed; a reader that has seen enough is no failure."""
  console.print(text)
  failure = getattr(sys.stdout, "failure", None)
  if failure is None or isinstance(failure, BrokenPipeError):
    return 0
  raise RunError(f"cannot write to the standard output ({failure.strerror})")


DEFAULT_CONFIG = "configs/draw.py"  # what runs without arguments

MODES = ["train", "evaluate", "sample", "encode", "explore", "export", "sweep", "compare", "benchmark", "show"]


class Flags(flags.FlagValues):
  """What the command line asks for, but for the overrides of the config."""

  def __init__(self):
    super().__init__()
    define = {"flag_values": self}
    flags.DEFINE_enum("mode", "train", MODES, "What to do; show prints the config, or in what it differs.", **define)
    flags.DEFINE_string("config", None, "A config file with a variant, or another run's config.json.", **define)
    flags.DEFINE_string("workdir", None, "Where the run lives; by default a new directory under runs/.", **define)
    flags.DEFINE_boolean("dry_run", False, "Says what training would take, and writes nothing.", **define)
    flags.DEFINE_list("workdirs", [], "The runs that --mode=compare puts side by side.", **define)
    flags.DEFINE_string(
      "images", None, "One's own images for --mode=encode: a folder, a single one, or an .npz of arrays.", **define
    )
    flags.DEFINE_string(
      "coordinator", None, "HOST:PORT of the first of several processes, or auto on a cluster or TPU slice.", **define
    )
    flags.DEFINE_integer("num_processes", None, "How many processes are this run.", lower_bound=1, **define)
    flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.", lower_bound=0, **define)
    flags.DEFINE_boolean("help", False, "Prints this, with every key of the config.", short_name="h", **define)
    self.set_gnu_getopt(True)

  @property
  def several(self) -> bool:
    """Whether this process is one of several that are one run."""
    return bool(self.coordinator or self.num_processes) or self.process_id is not None


def main(argv: Sequence[str]) -> int:
  """Does what a command line asks for; a person's mistake, a full disk or a signal is one line.

  Returns:
    The exit code.
  """
  logging.set_verbosity(logging.FATAL)  # what Orbax and TFDS log is no news to a person or said below in one line
  getLogger("asyncio").setLevel("CRITICAL")  # so is what becomes of Orbax's tasks on a full disk
  try:
    return dispatch(*parse(argv))
  except Interrupted as stopped:
    return stopped.exit_code
  except Exception as error:
    message = user_message(error)
    if message is None:
      raise
    print(f"error: {message}", file=sys.stderr)
    return message.exit_code


def parse(argv: Sequence[str]) -> tuple[Flags, list[str]]:
  """What is asked for, and what is left: the overrides of the config.

  Raises:
    UsageError: something else is left, or a flag has no such value.
  """
  request = Flags()
  try:
    rest = request(list(argv), known_only=True)[1:]
  except flags.Error as error:
    raise UsageError(last_line(error)) from None
  for flag in ("workdir", "config", "images"):
    if request[flag].present and not getattr(request, flag):
      raise UsageError(f"--{flag}= is empty: give it a value, or leave it out")
  return request, rest


def dispatch(request: Flags, rest: Sequence[str]) -> int:
  """Runs the mode that is asked for."""
  mode, given = request.mode, directory.parse_workdir(request.workdir)
  if mode != "compare" and request["workdirs"].present:
    raise UsageError("--workdirs belongs to --mode=compare: the other modes take one --workdir")
  if mode != "encode" and request.images:
    raise UsageError("--images belongs to --mode=encode: those to train on are named by --config.data.name")
  if mode not in ("train", "evaluate") and request.several:
    raise UsageError(f"--mode={mode} runs in one process: leave out --coordinator, --num_processes and --process_id")
  if mode != "train" and request.dry_run:
    raise UsageError(f"--dry_run is of --mode=train: leave it out with --mode={mode}")
  if mode == "compare" and not request.help:
    if request["config"].present or overrides.has_overrides(rest):
      raise UsageError("--mode=compare reads the configs of its runs: leave out --config")
    if rest:
      raise UsageError(overrides.unknown_flag_message(rest[0], list(request), ConfigDict()))
    workdirs = [str(directory.parse_workdir(workdir)) if workdir else "" for workdir in request.workdirs]
    return run_command(request, given, "compare", [workdirs])

  chosen = resolve_config(request, given)
  typed = overrides.apply_overrides(chosen.config, rest, list(request))
  start_jax(chosen.config)
  from latentjax import models
  from latentjax.cli import train  # import JAX

  if request.help:
    return print_help(__doc__, request, chosen)
  check_config(chosen.config)
  models.check_model(chosen.config.model)
  if mode == "show":
    return show_config(chosen.config, given if request.config or typed else None)
  if given is None and mode in ("evaluate", "sample", "encode", "explore", "export"):
    raise UsageError(f"--mode={mode} needs the --workdir of a run")
  args = [chosen.config]
  if request.several:
    initialize_distributed(request)
  if mode == "encode":
    args.append(request.images)
  if mode == "sweep":
    args.append(sweep_overrides(chosen, typed))
  check_devices()
  if request.dry_run:
    from latentjax import models
    from latentjax.cli import train

    train.dry_run(chosen.config, given)
    return 0
  name = f"{chosen.path.stem}-{chosen.variant}" if chosen.variant else chosen.config.model.name
  return run_command(request, given, name if mode != "benchmark" else f"benchmark-{name}", args)


def resolve_config(request: Flags, workdir: Path | None) -> ResolvedConfig:
  """The config asked for, without overrides: without --config that of the workdir, and without either the demo's.

  Raises:
    UsageError: the workdir has none, and none is given: the demo's would hide that its name is mistyped.
  """
  if workdir is not None and not request.config:
    if (workdir / "config.json").exists():
      config = records.read_config(workdir)
      return ResolvedConfig(config, files.CONFIGS_DIR / f"{config.model.name}.py", None, {})
    if not request.help:
      raise UsageError(f"{workdir} holds no run: check its name, or say by --config what to start there")
  return files.load_config(request.config or DEFAULT_CONFIG)


def sweep_overrides(chosen: ResolvedConfig, typed: dict[str, str]) -> list[dict]:
  """The overrides of --mode=sweep, none of them also of the command line."""
  from latentjax.cli import sweep  # imports JAX, which must not be before `backend.start`

  if chosen.path.suffix != ".py":
    raise UsageError(f"--mode=sweep: {chosen.shown} has no sweep(): it takes a config file, a Python one")
  found = sweep.read_sweep(chosen.path, chosen.shown)
  for key in {key for override in found for key in override} & typed.keys():
    raise UsageError(f"--config.{key} would be overridden by sweep() of {chosen.shown}: drop one of the two")
  return found


def initialize_distributed(request: Flags) -> None:
  """Lets this process be one of several that train or evaluate together."""
  from latentjax.runtime import distributed  # imports JAX, too

  if not request.workdir:
    raise UsageError("several processes need the same --workdir, which all of them see")
  distributed.initialize(request.coordinator, request.num_processes, request.process_id)


def run_command(request: Flags, given: Path | None, name: str, args: list) -> int:
  """Runs the mode in the given workdir, or in a new one of that name.

  Raises:
    Stopped: a signal asked for it; how to resume has been said.
  """
  mode = importlib.import_module(f"latentjax.cli.{request.mode}")
  workdir = given or directory.create_workdir(name)
  message = "stopped"
  if request.mode in ("train", "sweep"):
    config = [] if given or request.config else [f"--config={DEFAULT_CONFIG}"]  # its workdir may not have got one yet
    again = [*program_command(), *sys.argv[1:], *config, *([] if given else [f"--workdir={workdir}"])]
    message += f"; resume with: {shlex.join(again)}"
  exit_on_signal(message, partial(directory.remove_if_empty, workdir) if given is None else lambda: None)
  try:
    mode.run(*args, workdir)
  except Interrupted:
    print(message, file=sys.stderr)
    raise
  finally:
    if given is None:
      directory.remove_if_empty(workdir)
  return 0


def program_command() -> list[str]:
  """How this program was called, without arguments."""
  program, python = Path(sys.argv[0]), Path(sys.executable)
  if shutil.which("python") == str(python):
    python = "python"
  elif python.is_relative_to(Path.cwd()):
    python = python.relative_to(Path.cwd())
  if program.name == "__main__.py":
    return [str(python), "-m", "latentjax"]
  return [str(python), sys.argv[0]] if program.suffix == ".py" else [program.name]
