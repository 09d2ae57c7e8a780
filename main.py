"""Trains, evaluates, compares and shows deep latent-variable models of images. Without arguments it runs the demo.

Usage: python main.py [--mode=train|evaluate|sample|sweep|benchmark|show] [--config=configs/FILE.py:VARIANT]
                      [--config.KEY=VALUE ...] [--workdir=DIR]
       python main.py --mode=compare --workdirs=DIR,DIR,... [--workdir=DIR]
"""

import importlib
import os
import shlex
import signal
import sys
from logging import getLogger
from pathlib import Path
from types import FrameType

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from latentjax import config as configs
from latentjax.data.cache import cache_dir
from latentjax.errors import Stopped, UsageError, explained, last_line
from latentjax.interruption import SIGNALS
from latentjax.workdir import place, record

ROOT = Path(__file__).resolve().parent
DEFAULT = str(ROOT / "configs" / "draw.py")

FLAGS = flags.FLAGS
MODES = ["train", "evaluate", "sample", "sweep", "compare", "benchmark", "show"]
flags.DEFINE_enum("mode", "train", MODES, "What to do; show prints the config.")
flags.DEFINE_string("workdir", None, "Where the run lives; by default a new directory under runs/.")
flags.DEFINE_string(
  "coordinator", None, "HOST:PORT of the first of several processes, or auto on a cluster or TPU slice."
)
flags.DEFINE_integer("num_processes", None, "How many processes are this run.", lower_bound=1)
flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.", lower_bound=0)
flags.DEFINE_list("workdirs", None, "The runs that --mode=compare puts side by side; --workdir is where it writes.")


def parse(argv: list[str]) -> list[str]:
  """Parses the command line; whatever absl, ml_collections or a config file raise becomes one line."""
  overrides = [arg.lstrip("-").split("=")[0].removeprefix("config.") for arg in argv if arg.startswith("--config.")]
  try:
    chosen = flags.FlagValues()
    flags.DEFINE_string("config", DEFAULT, "", flag_values=chosen)
    chosen(argv, known_only=True)
    alone = config_flags.DEFINE_config_file(
      "config", chosen.config, flag_values=flags.FlagValues(), sys_argv=[]
    ).default
    alone.lock()  # a file that could not be found says so when its config is first used
  except Exception as error:  # a config file is code of the user's, and may raise anything
    raise UsageError(f"--config={chosen.config}: {last_line(error)}") from None
  unknown = configs.unknown_key(alone, overrides)
  if unknown is not None:
    raise UsageError(unknown)
  try:
    config_flags.DEFINE_config_file("config", DEFAULT, "Config file and variant, such as configs/draw.py:paper.")
    rest = FLAGS(argv)
  except (flags.Error, ValueError, TypeError) as error:
    raise UsageError(last_line(error)) from None
  if len(rest) > 1:
    raise UsageError(f"{rest[1]!r} is no flag: flags start with -- and carry their value after =")
  return rest


def resolve(workdir: Path | None) -> ConfigDict:
  """The config asked for: without --config it is that of the workdir, with the overrides of the command line."""
  flag = FLAGS["config"]
  if flag.present or workdir is None or not (workdir / "config.json").exists():
    return flag.value
  config = record.read_config(workdir)
  try:
    config.update_from_flattened_dict(flag.override_values)
  except (KeyError, TypeError) as error:
    raise UsageError(f"{workdir} holds a {config.model.name}, whose config has no such value: {error}") from None
  return config


def config_name() -> str:
  """The config file and its variant, such as draw-demo."""
  file, _, variant = FLAGS["config"].config_filename.partition(":")
  return f"{Path(file).stem}-{variant or 'demo'}"


def swept() -> list[dict]:
  """The overrides of --mode=sweep, none of them also of the command line."""
  from latentjax.modes import sweep  # imports JAX, which must not be before `keep_compiled`

  file = FLAGS["config"].config_filename.partition(":")[0]
  overrides = sweep.read(file)
  for key in {key for override in overrides for key in override} & FLAGS["config"].override_values.keys():
    raise UsageError(f"--config.{key} would be overridden by sweep() of {file}: drop one of the two")
  return overrides


def check_model(config: ConfigDict) -> None:
  from latentjax import models  # imports JAX

  models.check(config)


def keep_compiled() -> None:
  """Lets JAX, which is not imported yet, keep what it compiles; its own variables have the last word."""
  os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache_dir() / "compiled"))
  os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")


def workdirs_to_compare() -> list[str]:
  """What --mode=compare works on; the runs bring their own configs."""
  if FLAGS["config"].present or FLAGS["config"].override_values:
    raise UsageError("--mode=compare reads the configs of its runs: leave out --config")
  return FLAGS.workdirs or []


def join_others() -> None:
  """Lets this process be one of several that train or evaluate together."""
  from latentjax import processes  # imports JAX, too

  if FLAGS.mode not in ("train", "evaluate"):
    raise UsageError(f"--mode={FLAGS.mode} runs in one process: leave out --coordinator")
  if not FLAGS.workdir:
    raise UsageError("several processes need the same --workdir, which all of them see")
  processes.join(FLAGS.coordinator, FLAGS.num_processes, FLAGS.process_id)


def main(argv: list[str]) -> None:
  del argv
  mode, given = FLAGS.mode, Path(FLAGS.workdir) if FLAGS.workdir else None
  if mode != "compare" and FLAGS["workdirs"].present:
    raise UsageError("--workdirs belongs to --mode=compare: the other modes take one --workdir")
  if mode == "compare":
    name, args = mode, [workdirs_to_compare()]
  else:
    name, args = config_name(), [resolve(given)]
    if mode == "benchmark":
      name = f"benchmark-{name}"
    configs.check(args[0])
    if args[0].compile_cache:
      keep_compiled()
    check_model(args[0].model)
  if mode == "show":
    print(configs.to_json(args[0]), end="")
    return
  if given is None and mode in ("evaluate", "sample"):
    raise UsageError(f"--mode={mode} needs the --workdir of a run")
  if FLAGS.coordinator or FLAGS.num_processes or FLAGS.process_id is not None:
    join_others()
  if mode == "sweep":
    args.append(swept())
  run = importlib.import_module(f"latentjax.modes.{mode}").run
  workdir = given or place.create(name)
  told = "stopped"
  if mode in ("train", "sweep"):
    told += f"; go on with: {shlex.join(['python', *sys.argv, *([] if given else [f'--workdir={workdir}'])])}"
  stop_at_once(told, None if given else workdir)
  try:
    run(*args, workdir)
  except Stopped as stopped:
    print(told, file=sys.stderr)
    sys.exit(stopped.exit_code)
  finally:
    if not given:
      place.discard_empty(workdir)


def stop_at_once(told: str, workdir: Path | None = None) -> None:
  """Lets Ctrl-C and SIGTERM end this process on the spot, wherever a run does not hold them back.

  An exception in the midst of a compilation would do worse: it may be lost in a callback, or crash the interpreter.

  Args:
    told: the line to say.
    workdir: to remove if it is empty.
  """

  def stop(number: int, frame: FrameType | None) -> None:
    del frame
    if workdir is not None:
      place.discard_empty(workdir)
    if sys.stdout.isatty():
      os.write(1, b"\033[?25h")  # a progress bar may have hidden the cursor
    os.write(2, f"{told}\n".encode())  # not through a stream, whose own writing this may have interrupted
    os._exit(128 + number)

  for number in SIGNALS:
    signal.signal(number, stop)


if __name__ == "__main__":
  logging.set_verbosity(logging.FATAL)  # what Orbax and TFDS log is no news to a person or said below in one line
  getLogger("asyncio").setLevel("CRITICAL")  # so is what becomes of Orbax's tasks on a full disk
  stop_at_once("stopped before anything began")
  try:
    app.run(main, flags_parser=parse)
  except Exception as error:
    told = explained(error)
    if told is None:
      raise
    print(f"error: {told}", file=sys.stderr)
    sys.exit(told.exit_code)
