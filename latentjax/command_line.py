"""Trains, evaluates, compares and shows deep latent-variable models of images. Without arguments it runs the demo.

Usage: python main.py [--mode=train|evaluate|sample|encode|explore|export|sweep|benchmark|show] [--config=FILE:VARIANT]
                      [--config.KEY=VALUE ...] [--workdir=DIR]
       python main.py --mode=encode --workdir=DIR --images=PATH
       python main.py --mode=compare --workdirs=DIR,DIR,... [--workdir=DIR]

The same command with the same --workdir resumes where it stopped. Without --config a workdir has its own.
"""

import importlib
import shlex
import shutil
import sys
from collections.abc import Sequence
from functools import partial
from logging import getLogger
from pathlib import Path

from absl import flags, logging
from ml_collections import ConfigDict

from latentjax import backend, config_file, overrides
from latentjax import config as configs
from latentjax.config_file import Chosen
from latentjax.errors import Stopped, UsageError, explained, last_line
from latentjax.interruption import stop_at_once
from latentjax.workdir import directory, record

DEMO = "configs/draw.py"  # what runs without arguments
MODES = ["train", "evaluate", "sample", "encode", "explore", "export", "sweep", "compare", "benchmark", "show"]


class Request(flags.FlagValues):
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
    return carry_out(*parse(argv))
  except Stopped as stopped:
    return stopped.exit_code
  except Exception as error:
    message = explained(error)
    if message is None:
      raise
    print(f"error: {message}", file=sys.stderr)
    return message.exit_code


def parse(argv: Sequence[str]) -> tuple[Request, list[str]]:
  """What is asked for, and what is left: the overrides of the config.

  Raises:
    UsageError: something else is left, or a flag has no such value.
  """
  request = Request()
  try:
    rest = request(list(argv), known_only=True)[1:]
  except flags.Error as error:
    raise UsageError(last_line(error)) from None
  for flag in ("workdir", "config", "images"):
    if request[flag].present and not getattr(request, flag):
      raise UsageError(f"--{flag}= is empty: give it a value, or leave it out")
  return request, rest


def carry_out(request: Request, rest: Sequence[str]) -> int:
  """Runs the mode that is asked for."""
  mode, given = request.mode, directory.given(request.workdir)
  if mode != "compare" and request["workdirs"].present:
    raise UsageError("--workdirs belongs to --mode=compare: the other modes take one --workdir")
  if mode != "encode" and request.images:
    raise UsageError("--images belongs to --mode=encode: those to train on are named by --config.data.name")
  if mode not in ("train", "evaluate") and request.several:
    raise UsageError(f"--mode={mode} runs in one process: leave out --coordinator, --num_processes and --process_id")
  if mode != "train" and request.dry_run:
    raise UsageError(f"--dry_run is of --mode=train: leave it out with --mode={mode}")
  if mode == "compare" and not request.help:
    if request["config"].present or overrides.present(rest):
      raise UsageError("--mode=compare reads the configs of its runs: leave out --config")
    if rest:
      raise UsageError(overrides.stray(rest[0], list(request), ConfigDict()))
    workdirs = [str(directory.given(workdir)) if workdir else "" for workdir in request.workdirs]
    return run(request, given, "compare", [workdirs])

  chosen = choose(request, given)
  typed = overrides.apply(chosen.config, rest, list(request))
  backend.start(chosen.config)
  from latentjax import answers, models  # import JAX

  if request.help:
    return answers.print_help(__doc__, request, chosen)
  configs.check(chosen.config)
  models.check(chosen.config.model)
  if mode == "show":
    return answers.show(chosen.config, given if request.config or typed else None)
  if given is None and mode in ("evaluate", "sample", "encode", "explore", "export"):
    raise UsageError(f"--mode={mode} needs the --workdir of a run")
  args = [chosen.config]
  if request.several:
    join_others(request)
  if mode == "encode":
    args.append(request.images)
  if mode == "sweep":
    args.append(swept(chosen, typed))
  backend.require_devices()
  if request.dry_run:
    from latentjax.modes import dry_run

    dry_run.run(chosen.config, given)
    return 0
  name = f"{chosen.path.stem}-{chosen.variant}" if chosen.variant else chosen.config.model.name
  return run(request, given, name if mode != "benchmark" else f"benchmark-{name}", args)


def choose(request: Request, workdir: Path | None) -> Chosen:
  """The config asked for, without overrides: without --config that of the workdir, and without either the demo's.

  Raises:
    UsageError: the workdir has none, and none is given: the demo's would hide that its name is mistyped.
  """
  if workdir is not None and not request.config:
    if (workdir / "config.json").exists():
      config = record.read_config(workdir)
      return Chosen(config, config_file.CONFIGS / f"{config.model.name}.py", None, {})
    if not request.help:
      raise UsageError(f"{workdir} holds no run: check its name, or say by --config what to start there")
  return config_file.load(request.config or DEMO)


def swept(chosen: Chosen, typed: dict[str, str]) -> list[dict]:
  """The overrides of --mode=sweep, none of them also of the command line."""
  from latentjax.modes import sweep  # imports JAX, which must not be before `backend.start`

  if chosen.path.suffix != ".py":
    raise UsageError(f"--mode=sweep: {chosen.shown} has no sweep(): it takes a config file, a Python one")
  found = sweep.read(chosen.path, chosen.shown)
  for key in {key for override in found for key in override} & typed.keys():
    raise UsageError(f"--config.{key} would be overridden by sweep() of {chosen.shown}: drop one of the two")
  return found


def join_others(request: Request) -> None:
  """Lets this process be one of several that train or evaluate together."""
  from latentjax import processes  # imports JAX, too

  if not request.workdir:
    raise UsageError("several processes need the same --workdir, which all of them see")
  processes.join(request.coordinator, request.num_processes, request.process_id)


def run(request: Request, given: Path | None, name: str, args: list) -> int:
  """Runs the mode in the given workdir, or in a new one of that name.

  Raises:
    Stopped: a signal asked for it; how to resume has been said.
  """
  mode = importlib.import_module(f"latentjax.modes.{request.mode}")
  workdir = given or directory.create(name)
  message = "stopped"
  if request.mode in ("train", "sweep"):
    config = [] if given or request.config else [f"--config={DEMO}"]  # its workdir may not have got one yet
    again = [*command(), *sys.argv[1:], *config, *([] if given else [f"--workdir={workdir}"])]
    message += f"; resume with: {shlex.join(again)}"
  stop_at_once(message, partial(directory.discard_empty, workdir) if given is None else lambda: None)
  try:
    mode.run(*args, workdir)
  except Stopped:
    print(message, file=sys.stderr)
    raise
  finally:
    if given is None:
      directory.discard_empty(workdir)
  return 0


def command() -> list[str]:
  """How this program was called, without arguments."""
  program, python = Path(sys.argv[0]), Path(sys.executable)
  if shutil.which("python") == str(python):
    python = "python"
  elif python.is_relative_to(Path.cwd()):
    python = python.relative_to(Path.cwd())
  if program.name == "__main__.py":
    return [str(python), "-m", "latentjax"]
  return [str(python), sys.argv[0]] if program.suffix == ".py" else [program.name]
