"""Command line: commands, flags, `show`, and dispatch to one module per command."""

import difflib
import importlib
import os
import shlex
import shutil
import sys
import warnings
from collections.abc import Sequence
from functools import partial
from logging import getLogger
from pathlib import Path
from typing import Any

import jax
from absl import flags as absl_flags
from absl import logging
from ml_collections import ConfigDict

from latentjax import models
from latentjax._version import __version__
from latentjax.cli import overrides
from latentjax.cli.reference import COMMANDS, help_text, program_name, usage
from latentjax.config.files import CONFIGS_DIR, ResolvedConfig, load_config
from latentjax.config.schema import NON_IDENTITY_KEYS, check_config, differences
from latentjax.inference import pretrained
from latentjax.runtime import distributed
from latentjax.runtime.console import console
from latentjax.runtime.errors import Interrupted, RunError, UsageError, last_line, user_message
from latentjax.runtime.fileio import cache_dir, dump_json, expand_user
from latentjax.runtime.jax_settings import pin_settings
from latentjax.runtime.signals import exit_on_signal
from latentjax.workdir import directory, records

DEFAULT_CONFIG = "draw:demo"
MODES = list(COMMANDS)
NEED_A_RUN = [mode for mode, command in COMMANDS.items() if command.words[0] == "workdir"]


def define_flags() -> absl_flags.FlagValues:
  """Returns the flags of the command line, without the overrides of the config."""
  flags = absl_flags.FlagValues()
  define = {"flag_values": flags}
  absl_flags.DEFINE_enum("mode", "train", MODES, "Command, the same as its name as the first word.", **define)
  absl_flags.DEFINE_string("config", None, "FILE:VARIANT, or the config.json of a run.", **define)
  absl_flags.DEFINE_string(
    "workdir", None, "Directory of the run, where it resumes. By default a new one under runs/.", **define
  )
  absl_flags.DEFINE_boolean("dry_run", False, "Print the memory and FLOPs of training; write nothing.", **define)
  absl_flags.DEFINE_list("workdirs", [], "Runs to compare, separated by commas.", **define)
  images_help = "Your own images to encode: a folder, a file, or an .npz of arrays."
  absl_flags.DEFINE_string("images", None, images_help, **define)
  coordinator_help = "HOST:PORT of process 0, or auto on a cluster or TPU slice."
  absl_flags.DEFINE_string("coordinator", None, coordinator_help, **define)
  absl_flags.DEFINE_integer("num_processes", None, "Number of processes of this run.", lower_bound=1, **define)
  absl_flags.DEFINE_integer("process_id", None, "Number of this process, from 0.", lower_bound=0, **define)
  absl_flags.DEFINE_boolean("help", False, "Print this, with every key of the config.", short_name="h", **define)
  absl_flags.DEFINE_boolean("version", False, "Print the versions of latentjax and JAX.", **define)
  flags.set_gnu_getopt(True)
  return flags


def main(argv: Sequence[str]) -> int:
  """Runs the command line and returns its exit code; expected errors are one line on stderr."""
  logging.set_verbosity(logging.FATAL)  # of Orbax and TFDS: their errors are reported in one line below
  getLogger("asyncio").setLevel("CRITICAL")  # of Orbax's tasks on a full disk
  getLogger("matplotlib").setLevel("ERROR")  # its warnings are about settings and directories that plots do not need
  os.environ["MPLBACKEND"] = "Agg"  # Matplotlib refuses to be imported with an unknown one, though plots need none
  try:
    return dispatch(*parse_flags(argv))
  except Interrupted as interrupted:
    return interrupted.exit_code
  except Exception as error:
    message = user_message(error)
    if message is None:
      raise
    print(f"error: {message}", file=sys.stderr)
    return message.exit_code


def parse_flags(argv: Sequence[str]) -> tuple[absl_flags.FlagValues, list[str]]:
  """Returns the flags and the remaining arguments, which are overrides of the config.

  The first word is the command, the others stand for flags: see `COMMANDS`.
  """
  flags = define_flags()
  try:
    rest, words = overrides.split_words(flags(list(argv), known_only=True)[1:])
  except absl_flags.Error as error:
    raise UsageError(last_line(error)) from None
  if words and (words[0] in MODES or not flags["mode"].present):
    command = words.pop(0)
    if command not in MODES:
      near = difflib.get_close_matches(command, MODES, n=1)
      advice = f"Did you mean {near[0]}?" if near else f"Choose one of {', '.join(MODES)}; flags start with --."
      raise UsageError(f"Unknown command {command!r}. {advice}")
    _set_flag(flags, "mode", command)
  names = COMMANDS[flags.mode].words
  if names == ("workdirs",):
    words = [words] if words else []
  elif names == ("config",) and words and (expand_user(words[0]) / "config.json").is_file():
    names = ("workdir",)
  if len(words) > len(names):
    extra = f"{words[len(names)]!r} is one argument too many"
    raise UsageError(f"{extra}. Usage: {program_name()} {usage(flags.mode)}; flags start with --.")
  for name, word in zip(names, words, strict=False):
    _set_flag(flags, name, word)
  for name in ("workdir", "config", "images"):
    if flags[name].present and not getattr(flags, name):
      raise UsageError(f"--{name}= is empty. Give it a value, or leave it out.")
  return flags, rest


def _set_flag(flags: absl_flags.FlagValues, name: str, value: str | list[str]) -> None:
  """Gives a flag the value of the word, or words, that stand for it."""
  if flags[name].present:
    given = shlex.join([value] if isinstance(value, str) else value)
    raise UsageError(f"{given} stands for --{name}, which is given as well. Drop one of the two.")
  flags[name].value, flags[name].present = value, 1


def dispatch(flags: absl_flags.FlagValues, rest: Sequence[str]) -> int:
  """Runs the mode and returns the exit code."""
  if flags.version:
    return print_output(f"latentjax {__version__}, jax {jax.__version__}")
  mode, workdir = flags.mode, directory.parse_workdir(flags.workdir)
  if mode != "compare" and flags["workdirs"].present:
    raise UsageError("--workdirs is for `latentjax compare`. Other commands take one --workdir.")
  if mode != "encode" and flags.images:
    raise UsageError("--images is for `latentjax encode`. To train on your own images, use --config.data.name.")
  multi_process = bool(flags.coordinator or flags.num_processes) or flags.process_id is not None
  if mode not in ("train", "evaluate") and multi_process:
    raise UsageError(f"`latentjax {mode}` runs in one process. Drop --coordinator, --num_processes and --process_id.")
  if mode != "train" and flags.dry_run:
    raise UsageError(f"--dry_run is for `latentjax train`. Drop it with `latentjax {mode}`.")
  if mode == "compare" and not flags.help:
    if flags["config"].present or any(map(overrides.OVERRIDE.match, rest)):
      raise UsageError("`latentjax compare` reads the configs of its runs. Drop --config.")
    if rest:
      raise UsageError(overrides.unknown_flag_message(rest[0], list(flags), {}))
    workdirs = [str(directory.parse_workdir(name)) if name else "" for name in flags.workdirs]
    return run_mode(flags, workdir, "compare", [workdirs])

  if mode in NEED_A_RUN and not flags.help:
    workdir = _workdir_or_pretrained(flags.workdir)
  chosen = resolve_config(flags, workdir)
  config = chosen.config
  overridden = overrides.apply_overrides(config, rest, list(flags))
  start_jax(config)
  if flags.help:
    return print_help(flags, chosen)
  check_config(config)
  models.check_model(config.model)
  if mode == "show":
    return show_config(config, workdir if flags.config or overridden else None)
  if workdir is None and mode in NEED_A_RUN:
    raise UsageError(f"`latentjax {mode}` needs the --workdir of a run, as in `{program_name()} {mode} runs/NAME`.")
  args = [config]
  if multi_process:
    if not flags.workdir:
      raise UsageError("Several processes need the same --workdir on a shared file system.")
    distributed.initialize(flags.coordinator, flags.num_processes, flags.process_id)
  if mode == "encode":
    args.append(flags.images)
  if mode == "sweep":
    if chosen.path.suffix != ".py":
      raise UsageError(f"{chosen.shown} has no sweep(). Use a Python config file.")
    args.append(importlib.import_module("latentjax.cli.sweep").read_sweep(chosen.path, chosen.shown))
    for name in overridden.intersection(key for override in args[-1] for key in override):
      raise UsageError(f"--config.{name} would be overridden by sweep() of {chosen.shown}. Drop one of the two.")
  check_devices()
  if flags.dry_run:
    importlib.import_module("latentjax.cli.train").dry_run(config, workdir)
    return 0
  name = f"{chosen.path.stem}-{chosen.variant}" if chosen.variant else config.model.name
  return run_mode(flags, workdir, name if mode != "benchmark" else f"benchmark-{name}", args)


def _workdir_or_pretrained(name: str | None) -> Path | None:
  """Returns the workdir `name`; if it holds no run and names a pretrained model, a copy of that model under runs/.

  Commands write into their workdir, which must not be the installed package.
  """
  workdir = directory.parse_workdir(name)
  if workdir is None or (workdir / "config.json").exists():
    return workdir
  folder = pretrained.find(name)
  if folder is None:
    return workdir
  copy = Path("runs", name)
  if not (copy / "config.json").exists():
    copy.mkdir(parents=True, exist_ok=True)
    files = [path for path in folder.iterdir() if path.is_file()]
    for path in sorted(files, key=lambda path: path.name == "config.json"):  # last: with it, the copy is complete
      shutil.copyfile(path, copy / path.name)
    console.print(f"The pretrained {name} is copied to {copy}, where results go.")
  elif (copy / "config.json").read_bytes() != (folder / "config.json").read_bytes():
    raise UsageError(f"{copy} holds another run than the pretrained {name}. Rename it.")
  return copy


def resolve_config(flags: absl_flags.FlagValues, workdir: Path | None) -> ResolvedConfig:
  """Returns the config of `--config`, else that of the workdir, else the demo's, all without overrides."""
  if workdir is not None and not flags.config:
    if (workdir / "config.json").exists():
      config = records.read_config(workdir)
      return ResolvedConfig(config, CONFIGS_DIR / f"{config.model.name}.py")
    if not flags.help:  # falling back to the demo would hide a mistyped name
      near = difflib.get_close_matches(workdir.name, pretrained.names(), n=1)
      advice = f"did you mean the pretrained {near[0]}?" if near else "check its name."
      start = f"To start one there, run latentjax train CONFIG --workdir={workdir}"
      raise UsageError(f"{workdir} holds no run: {advice} {start}.")
  return load_config(flags.config or DEFAULT_CONFIG)


def start_jax(config: ConfigDict) -> None:
  """Sets JAX's options before anything is compiled; for the cache, its environment variables take precedence."""
  if jax.config.jax_disable_jit:
    raise UsageError("JAX_DISABLE_JIT is set, but latentjax needs compilation. Unset it.")
  if jax.config.jax_enable_x64:
    print("JAX_ENABLE_X64 is ignored: latentjax always computes in float32", file=sys.stderr)
  pin_settings()
  if directory := os.environ.get("JAX_COMPILATION_CACHE_DIR"):
    jax.config.update("jax_compilation_cache_dir", os.path.expanduser(directory))  # JAX does not expand ~
  if config.compilation_cache:
    options = {
      "jax_compilation_cache_dir": str(cache_dir() / "compiled"),
      "jax_persistent_cache_min_compile_time_secs": 0.2,
    }
    for name, value in options.items():
      if name.upper() not in os.environ:
        jax.config.update(name, value)
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")


def check_devices() -> None:
  """Raises UsageError if JAX finds no device of the kind that JAX_PLATFORMS names."""
  platforms = os.environ.get("JAX_PLATFORMS", "")
  try:
    jax.devices()
  except (RuntimeError, AssertionError) as error:  # an AssertionError without a message if there is no device at all
    reason = last_line(error).partition(" (set JAX_PLATFORMS")[0] if str(error) else "no such device"
    raise UsageError(
      f"{f'JAX_PLATFORMS={platforms}' if platforms else 'JAX'}: {reason}. JAX_PLATFORMS=cpu always works. For a GPU or"
      " TPU install JAX with support for it, see docs/start.md."
    ) from None


def show_config(config: ConfigDict, workdir: Path | None) -> int:
  """Prints a config, or how it differs from that of the run in `workdir`."""
  if workdir is None or not (workdir / "config.json").exists():
    return print_output(dump_json(config.to_dict()).rstrip())
  saved = records.read_config(workdir)
  refused = differences(saved, config, (*NON_IDENTITY_KEYS, *models.performance_keys(saved.model)))
  lines = [
    line + ("  (a different experiment: it needs another --workdir)" if line in refused else "")
    for line in differences(saved, config)
  ]
  return print_output("\n".join(lines) or f"no difference from {workdir}")


def print_help(flags: absl_flags.FlagValues, chosen: ResolvedConfig) -> int:
  """Prints usage, flags, config files, and the variants and keys of the chosen config."""
  described = {
    flags[name].name: flags[name].help + (f" Default: {flags[name].default}." if flags[name].default else "")
    for name in flags
  }
  return print_output(help_text(flags.mode if flags["mode"].present else None, described, chosen))


def print_output(text: str) -> int:
  """Prints the result of a command and returns 0, even if its reader has closed the pipe."""
  console.print(text)
  failure = getattr(sys.stdout, "failure", None)
  if failure is None or isinstance(failure, BrokenPipeError):
    return 0
  raise RunError(f"Cannot write to standard output ({failure.strerror}).")


def run_mode(flags: absl_flags.FlagValues, given: Path | None, name: str, args: Sequence[Any]) -> int:
  """Runs the mode in the given workdir, or in a new one named after `name`."""
  mode = importlib.import_module(f"latentjax.cli.{flags.mode}")
  workdir = given or directory.create_workdir(name)
  message = "stopped"
  if flags.mode in ("train", "sweep"):
    config = [] if given or flags.config else [f"--config={DEFAULT_CONFIG}"]  # the workdir may not have one yet
    command = [*sys.orig_argv, *config, *([] if given else [f"--workdir={workdir}"])]
    message += f"; resume with: {shlex.join(command)}"
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
