"""Trains, evaluates and shows deep latent-variable models of images. Without arguments: the demo.

python main.py [--mode=train|evaluate|sample|show] [--config=configs/FILE.py:VARIANT] [--config.KEY=VALUE ...] [--workdir=DIR]
"""

import importlib
import sys
from pathlib import Path

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from latentjax import config as configs
from latentjax.errors import RunError, UsageError

ROOT = Path(__file__).resolve().parent
MODES = ("train", "evaluate", "sample", "show")
DEFAULT = str(ROOT / "configs" / "draw.py")

FLAGS = flags.FLAGS
flags.DEFINE_enum("mode", "train", MODES, "What to do; show prints the resolved config and stops.")
flags.DEFINE_string("workdir", None, "Where the run lives; by default a new directory under runs/.")
config_flags.DEFINE_config_file("config", DEFAULT, "Config file and variant, as in configs/draw.py:paper.")


def parse(argv: list[str]) -> list[str]:
  """Parses the command line; what absl and ml_collections raise becomes one line about the mistake."""
  try:
    rest = FLAGS(argv)
  except AttributeError:
    chosen = next((arg.split("=", 1)[1] for arg in argv if arg.startswith("--config=")), DEFAULT)
    config = config_flags.ConfigFileFlagParser("config").parse(chosen)
    keys = [arg.split("=")[0].removeprefix("--config.") for arg in argv if arg.startswith("--config.")]
    raise UsageError(configs.unknown_key(config, keys)) from None
  except (flags.Error, ValueError, TypeError, OSError) as error:
    raise UsageError(str(error).strip().splitlines()[-1].removeprefix("ValueError: ")) from None
  if len(rest) > 1:
    raise UsageError(f"{rest[1]!r} is no flag: flags start with -- and take their value after =")
  return rest


def resolve(config_flag: flags.Flag, workdir: Path | None, mode: str) -> ConfigDict:
  """The config asked for; without --config, that of the workdir, with the overrides of the command line."""
  if config_flag.present or workdir is None or not (workdir / "config.json").exists():
    return config_flag.value
  config = record.read_config(workdir)
  config.update_from_flattened_dict(config_flag.override_values)
  return config


def main(argv: list[str]) -> None:
  del argv
  config = FLAGS.config
  workdir = Path(FLAGS.workdir)
  importlib.import_module(f"latentjax.modes.{FLAGS.mode}").run(config, workdir)


if __name__ == "__main__":
  logging.set_verbosity(logging.ERROR)
  try:
    app.run(main, flags_parser=parse)
  except (UsageError, RunError) as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(error.exit_code)
