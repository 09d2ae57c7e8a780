"""Config files are found by name; every problem with one is a single line that names its place."""

import json
import re

import pytest
from ml_collections import ConfigDict

from latentjax import models
from latentjax.cli.reference import describe_keys
from latentjax.config import files
from latentjax.config.schema import check_config, flatten
from latentjax.config.serialization import read_config_json
from latentjax.runtime.errors import UsageError


@pytest.mark.parametrize("name", ["configs/vae.py", "vae.py", "vae"])
def test_a_name_is_looked_up_beside_the_project_too(name, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  chosen = files.load_config(f"{name}:default")
  assert (chosen.path.resolve(), chosen.variant) == (files.CONFIGS_DIR / "vae.py", "default")
  assert {"default", "demo"} <= set(chosen.variants)
  chosen = files.load_config(name)
  assert chosen.variant == "demo"
  (tmp_path / "vae.py").write_text("from configs import draw\nget_config = draw.base\n")  # the user's own first
  if name == "vae.py":
    assert files.load_config(name).config.model.name == "draw"


def test_a_runs_config_is_a_config(tmp_path):
  path = tmp_path / "config.json"
  config = files.load_config("ladder_vae").config
  path.write_text(json.dumps(config.to_dict() | {"run": []}))
  assert files.load_config(str(path)).config.to_dict() == config.to_dict()
  with pytest.raises(UsageError, match=re.escape(f"Use --workdir={tmp_path}, or")):
    files.load_config(str(tmp_path))


WRONG = {
  "def get_config():\n  pass\n": r"returns NoneType\. Return an ml_collections.ConfigDict",
  "def get_config():\n  return {}\n": r"returns dict\. Return",
  "import sys\nsys.exit(0)\n": r"SystemExit: 0 \(.*own.py, line 2\)",
  "def get_config():\n  x = 1\n  raise RuntimeError('boom')\n": r"RuntimeError: boom \(.*own.py, line 3\)",
  "def get_config():\n  return [][1]\n": r"IndexError: list index out of range \(.*own.py, line 2\)",
  "def get_config():\n  assert False\n": r"AssertionError \(.*own.py, line 2\)",
  "from configs import vae\nfrom ml_collections import config_dict\n\ndef get_config():\n  config = vae.demo()\n"
  "  config.train.epochs = config_dict.required_placeholder(int)\n  return config\n": r"RequiredValueError",
  "x = 1\nx = = 2\n": r"SyntaxError: invalid syntax \(.*own.py, line 2\)",
  "import nowhere\n": r"ModuleNotFoundError: No module named 'nowhere' \(.*own.py, line 1\)",
  "x = 1\n": r"own.py has no get_config\(\)",
  "get_config = 3\n": r"own.py has no get_config\(\)",
  "from configs import vae\ndef get_config():\n  return vae.get_config('x')\n": "Choose one of demo",
}


@pytest.mark.parametrize(
  ("key", "message"),
  [
    ("train.lr", r"own.py: Unknown config key 'train.lr'. Did you mean 'train.learning_rate'\?$"),
    ("data.path", r"own.py: Unknown config key 'data.path'"),
  ],
)
def test_a_key_that_nothing_reads_is_refused(tmp_path, key, message):
  path = tmp_path / "own.py"
  lines = [
    "from configs import vae",
    "def get_config():",
    "  config = vae.demo()",
    f"  config.{key} = 1",
    "  return config",
  ]
  path.write_text("\n".join(lines))
  with pytest.raises(UsageError, match=message):
    files.load_config(str(path))


@pytest.mark.parametrize("source", WRONG)
def test_a_wrong_file_is_one_line_that_says_where(source, tmp_path):
  path = tmp_path / "own.py"
  path.write_text(source)
  with pytest.raises(UsageError, match=WRONG[source]) as error:
    files.load_config(str(path))
  assert str(error.value).startswith(f"--config={path}: ")
  assert "\n" not in str(error.value)


def test_a_file_without_variants_takes_none(tmp_path):
  path = tmp_path / "own.py"
  path.write_text("from configs import vae\ndef get_config():\n  return vae.demo()\n")
  assert files.load_config(str(path)).variant is None
  with pytest.raises(UsageError, match="has no variants"):
    files.load_config(f"{path}:demo")


def test_a_frozen_config_can_be_changed(tmp_path):
  path = tmp_path / "own.py"
  path.write_text(
    "from configs import vae\nimport ml_collections\n"
    "def get_config():\n  return ml_collections.FrozenConfigDict(vae.demo())\n"
  )
  config = files.load_config(str(path)).config
  config.train.epochs = 3
  assert type(config.train) is ConfigDict


def test_a_list_is_the_tuple_that_a_run_keeps(tmp_path):
  """Else the same command would be of another experiment than its own config.json."""
  path = tmp_path / "own.py"
  path.write_text(
    "from ml_collections import ConfigDict\nfrom latentjax.models import default_config\n"
    "def get_config():\n  tree = default_config('vae').to_dict()\n"
    "  tree['model']['hidden_dims'] = [12, 8]\n  return ConfigDict(tree)\n"
  )
  config = files.load_config(str(path)).config
  assert config.model.hidden_dims == (12, 8)
  (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
  assert read_config_json(tmp_path / "config.json").model.hidden_dims == config.model.hidden_dims


def test_numbers_of_any_type_are_those_of_python(tmp_path):
  path = tmp_path / "own.py"
  path.write_text(
    "import fractions\nimport jax.numpy as jnp\nimport numpy as np\nfrom configs import vae\n"
    "def get_config():\n  config = vae.demo()\n"
    "  config.train.learning_rate = np.float32(0.5)\n  config.train.beta = fractions.Fraction(1, 4)\n"
    "  config.train.epochs = np.int64(3)\n  config.seed = jnp.int32(4)\n  config.train.batch_size = np.array(16)\n"
    "  config.model.hidden_dims = [np.int16(8), 6]\n  config.eval.batch_size = np.array(20)[()]\n"
    "  config.compilation_cache = np.bool_(True)\n  config.benchmark.batch_sizes = np.arange(1, 3)\n  return config\n"
  )
  config = files.load_config(str(path)).config
  check_config(config)
  models.check_model(config.model)
  expected = {"train.learning_rate": 0.5, "train.beta": 0.25, "train.epochs": 3, "seed": 4, "train.batch_size": 16}
  expected |= {"model.hidden_dims": (8, 6), "eval.batch_size": 20, "compilation_cache": True}
  expected |= {"benchmark.batch_sizes": (1, 2)}
  values = flatten(config.to_dict())
  assert repr({key: values[key] for key in expected}) == repr(expected)  # of the same types


@pytest.mark.parametrize("folder", ["a:b", "c:vae.py:d", "e"])
def test_a_path_may_have_colons(tmp_path, folder):
  (tmp_path / folder).mkdir()
  for name in ("own.py", "o:n.py"):
    path = tmp_path / folder / name
    path.write_text("from configs import vae\nget_config = vae.get_config\n")
    for variant in ("demo", "default"):
      chosen = files.load_config(f"{path}:{variant}")
      assert (chosen.path, chosen.variant) == (path, variant)
    assert (files.load_config(str(path)).path, files.load_config(str(path)).variant) == (path, "demo")
  with pytest.raises(UsageError, match=re.escape(f"--config={tmp_path / folder / 'none.py'}: no such file")):
    files.load_config(str(tmp_path / folder / "none.py"))


def test_a_name_may_begin_with_the_home_directory(tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path))
  (tmp_path / "own.py").write_text("from configs import vae\nget_config = vae.demo\n")
  assert files.load_config("~/own.py").config.model.name == "vae"


@pytest.mark.parametrize("file", models.MODELS)
def test_help_describes_every_key(file):
  config = files.load_config(file).config
  lines = [line for line in describe_keys(config) if line.startswith("  ")]
  keys = flatten(config.to_dict())
  assert len(lines) == len(keys)
  for key, value in keys.items():
    (line,) = [line for line in lines if line.split("=")[0].strip() == key]
    shown = f"{key}={','.join(map(str, value)) if isinstance(value, tuple) else value}"
    assert line.strip().startswith(f"{shown} ")


def test_help_lists_choices_before_the_meaning():
  (line,) = [line for line in describe_keys(files.load_config("draw").config) if "data.placement" in line]
  assert line.split(maxsplit=1)[1].startswith("auto | device | host; memory that holds the training images")


@pytest.mark.parametrize(
  "source", ["VARIANTS = 3", "VARIANTS = {'a': vae.demo}", "VARIANTS = {'a': lambda: vae.demo()}", ""]
)
def test_variants_are_listed_if_they_are_known(tmp_path, source):
  path = tmp_path / "own.py"
  path.write_text(f"from configs import vae\n{source}\ndef get_config(variant='a'):\n  return vae.demo()\n")
  chosen = files.load_config(str(path))
  assert chosen.variant == "a"
  assert list(chosen.variants) == (["a"] if "{" in source else [])
