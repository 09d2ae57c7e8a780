"""The installed package has the requirements and the version of the clone."""

import importlib
import re
import tomllib
from pathlib import Path

import latentjax

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def requirements(name: str) -> set[str]:
  """The lines of a file without their comments and without other files."""
  lines = (re.sub(r"\s*#.*", "", line) for line in (ROOT / name).read_text(encoding="utf-8").splitlines())
  return {line for line in lines if line and not line.startswith("-r ")}


def test_dependencies_stand_twice_and_agree():
  extras = {name: set(lines) for name, lines in PROJECT["optional-dependencies"].items()}
  tfds = {line for line in requirements("requirements.txt") if line.startswith(("tensorflow", "importlib_resources"))}
  assert set(PROJECT["dependencies"]) == requirements("requirements.txt") - tfds
  assert extras["tfds"] == tfds | requirements("requirements-tfds.txt")
  assert extras["dev"] == requirements("requirements-dev.txt")
  assert not any(line.startswith(("tensorflow-cpu", "tensorflow>")) for line in requirements("requirements.txt"))


def test_one_version():
  cited = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
  newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
  assert cited[1] == newest[1] == latentjax.__version__


def test_the_console_command_is_there():
  module, function = PROJECT["scripts"]["latentjax"].split(":")
  assert callable(getattr(importlib.import_module(module), function))
