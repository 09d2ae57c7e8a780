"""Trains, evaluates and shows deep latent-variable models of images. Without arguments it runs the demo.

Usage: python main.py [--mode=train|evaluate|sample|benchmark|show] [--config=configs/FILE.py:VARIANT]
                      [--config.KEY=VALUE ...] [--workdir=DIR]
"""

import datetime
import importlib
import sys
from pathlib import Path

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from latentjax import config as configs
from latentjax.errors import RunError, UsageError
from latentjax.workdir import record

ROOT = Path(__file__).resolve().parent
DEFAULT = str(ROOT / "configs" / "draw.py")

FLAGS = flags.FLAGS
MODES = ["train", "evaluate", "sample", "benchmark", "show"]
flags.DEFINE_enum("mode", "train", MODES, "What to do; show prints the config.")
flags.DEFINE_string("workdir", None, "Where the run lives; by default a new directory under runs/.")


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


def last_line(error: Exception) -> str:
  """What an error has to say, without the traceback that ml_collections puts before it."""
  text = str(error).strip() or type(error).__name__
  return text.splitlines()[-1].strip().removeprefix("ValueError: ")


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


def new_workdir(prefix: str = "") -> Path:
  """A directory under runs/ named after the config and the time, such as runs/draw-demo-20261231-235959."""
  file, _, variant = FLAGS["config"].config_filename.partition(":")
  return Path("runs", f"{prefix}{Path(file).stem}-{variant or 'demo'}-{datetime.datetime.now():%Y%m%d-%H%M%S}")


def main(argv: list[str]) -> None:
  del argv
  workdir = Path(FLAGS.workdir) if FLAGS.workdir else None
  config = resolve(workdir)
  configs.check(config)
  if FLAGS.mode == "show":
    print(configs.to_json(config), end="")
    return
  if workdir is None:
    if FLAGS.mode not in ("train", "benchmark"):
      raise UsageError(f"--mode={FLAGS.mode} needs the --workdir of a run")
    workdir = new_workdir("benchmark-" if FLAGS.mode == "benchmark" else "")
  importlib.import_module(f"latentjax.modes.{FLAGS.mode}").run(config, workdir)


if __name__ == "__main__":
  logging.set_verbosity(
    logging.FATAL
  )  # what Orbax and TFDS log is either no news to a person or said below in one line
  try:
    app.run(main, flags_parser=parse)
  except (UsageError, RunError) as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(error.exit_code)
  except OSError as error:  # a disk or a path that refuses
    print(f"error: {error}", file=sys.stderr)
    sys.exit(RunError.exit_code)
  except (RuntimeError, MemoryError) as error:
    if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
      raise
    print("error: out of memory: lower train.batch_size, eval.batch_size or the model's sizes", file=sys.stderr)
    sys.exit(RunError.exit_code)
  except KeyboardInterrupt:
    print("\nstopped; a training goes on after its last checkpoint by the same command and --workdir", file=sys.stderr)
    sys.exit(130)
