"""Packages are layered: each imports only from those listed beside it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAY_IMPORT = {  # from the lowest to the highest
  "runtime": (),
  "config": ("runtime",),
  "data": ("runtime",),
  "models": ("config", "runtime"),
  "workdir": ("config", "runtime"),
  "inference": ("workdir", "models", "data", "config", "runtime"),
  "training": ("inference", "workdir", "models", "data", "config", "runtime"),
  "cli": ("training", "inference", "workdir", "models", "data", "config", "runtime"),
}
TOP_LEVEL = {"__init__.py": ("inference", "training"), "__main__.py": ("cli", "runtime"), "_version.py": ()}
PACKAGE_FILES = sorted((ROOT / "latentjax").rglob("*.py"))
CONFIGS = sorted((ROOT / "configs").glob("*.py"))


def imports(path: Path) -> set[str]:
  names = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      names |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      names |= {f"{node.module}.{alias.name}" for alias in node.names}
  return names


def test_no_module_is_loose():
  assert {path.name for path in (ROOT / "latentjax").glob("*.py")} == set(TOP_LEVEL)
  assert {path.parent.name for path in (ROOT / "latentjax").glob("*/__init__.py")} == set(MAY_IMPORT)


@pytest.mark.parametrize("path", PACKAGE_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
  package = path.relative_to(ROOT / "latentjax").parts[0]
  allowed = TOP_LEVEL[package] if package in TOP_LEVEL else (package, *MAY_IMPORT[package])
  used = {name.split(".")[1] for name in imports(path) if name.startswith("latentjax.")}
  assert used <= {*allowed, "_version"}


@pytest.mark.parametrize("path", [*PACKAGE_FILES, *CONFIGS], ids=lambda path: str(path.relative_to(ROOT)))
def test_packages_keep_to_their_libraries(path):
  place, used = str(path.relative_to(ROOT)), imports(path)
  top_level = {
    alias.name
    for node in ast.parse(path.read_text()).body
    if isinstance(node, ast.Import | ast.ImportFrom)
    for alias in node.names
  }
  assert place.startswith("latentjax/models") or not any(name.startswith("flax.linen") for name in used)
  assert not any(name.split(".")[0] in ("pickle", "tensorflow") for name in used)
  assert not any(name.startswith(("tensorflow_datasets", "mlxtend")) for name in top_level)
  of_flags = place in ("latentjax/cli/main.py", "latentjax/cli/overrides.py")
  assert of_flags or not any(name.startswith("absl") for name in used)


def test_signals_are_handled_before_anything_slow_is_imported():
  code = "import sys, latentjax.__main__; print(sorted({'absl', 'jax', 'numpy', 'rich'} & sys.modules.keys()))"
  assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout == "[]\n"


def test_nothing_is_unpickled():
  """Pickle in any of its guises would let a file in a workdir or cache execute code."""
  forbidden = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "torch"}
  for path in (*PACKAGE_FILES, *CONFIGS, ROOT / "main.py"):
    assert not {name.split(".")[0] for name in imports(path)} & forbidden, path
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
        assert ast.unparse(node.value) == "False", path
