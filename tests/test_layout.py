"""The house has floors: imports point down, so that each wing can be read without those above it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
GROUND = (
  "latentjax.__version__",
  "latentjax.errors",
  "latentjax.config",
  "latentjax.console",
  "latentjax.free_memory",
  "latentjax.mesh",
  "latentjax.npz",
  "latentjax.paths",
  "latentjax.processes",
  "latentjax.synonyms",
)
MAY_IMPORT = {
  "latentjax/errors.py": (),
  "latentjax/synonyms.py": (),
  "latentjax/config.py": ("latentjax.errors", "latentjax.synonyms"),
  "latentjax/config_json.py": ("latentjax.errors", "latentjax.config"),
  "latentjax/console.py": ("latentjax.errors",),
  "latentjax/free_memory.py": (),
  "latentjax/interruption.py": ("latentjax.errors", "latentjax.console"),
  "latentjax/mesh.py": ("latentjax.errors",),
  "latentjax/npz.py": ("latentjax.errors",),
  "latentjax/paths.py": ("latentjax.errors",),
  "latentjax/processes.py": ("latentjax.errors", "latentjax.console"),
  "latentjax/data": ("latentjax.data", *GROUND),
  "latentjax/workdir": ("latentjax.workdir", *GROUND),
  "latentjax/models": ("latentjax.models", *GROUND),
  "latentjax/explore": ("latentjax.explore", *GROUND),
  "latentjax/training": ("latentjax.training", "latentjax.models", "latentjax.data", *GROUND),
  "latentjax/experiment.py": ("latentjax.training", "latentjax.models", "latentjax.data", *GROUND),
  "latentjax/trained.py": (
    "latentjax.experiment",
    "latentjax.training",
    "latentjax.models",
    "latentjax.workdir",
    *GROUND,
  ),
  "latentjax/best.py": (
    "latentjax.trained",
    "latentjax.experiment",
    "latentjax.training",
    "latentjax.models",
    "latentjax.workdir",
    *GROUND,
  ),
  "latentjax/__init__.py": ("latentjax.loaded",),
  "latentjax/loaded.py": (
    "latentjax.trained",
    "latentjax.training",
    "latentjax.models",
    "latentjax.data.batches",
    "latentjax.workdir",
    *GROUND,
  ),
  "latentjax/sketches.py": ("latentjax.experiment", "latentjax.training", "latentjax.workdir", *GROUND),
  "latentjax/loop.py": (
    "latentjax.experiment",
    "latentjax.sketches",
    "latentjax.training",
    "latentjax.data",
    "latentjax.workdir",
    "latentjax.interruption",
    *GROUND,
  ),
  "latentjax/modes": ("latentjax",),
  "latentjax/config_file.py": ("latentjax.config", "latentjax.errors", "latentjax.paths"),
  "latentjax/backend.py": ("latentjax.data.cache", "latentjax.errors"),
  "latentjax/answers.py": ("latentjax.config_file", "latentjax.models", "latentjax.workdir", *GROUND),
  "latentjax/overrides.py": ("latentjax.config", "latentjax.config_file", "latentjax.errors", "latentjax.synonyms"),
  "latentjax/command_line.py": ("latentjax",),
  "latentjax/__main__.py": ("latentjax.command_line", "latentjax.interruption", "latentjax.console"),
  "configs": ("configs",),
}
SOURCES = [*(ROOT / "latentjax").rglob("*.py"), *(ROOT / "configs").glob("*.py")]


def imports(path: Path) -> set[str]:
  names = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      names |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      names |= {f"{node.module}.{alias.name}" for alias in node.names}
  return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
  place = str(path.relative_to(ROOT))
  allowed = next((below for wing, below in MAY_IMPORT.items() if place.startswith(wing)), ())
  own = {name for name in imports(path) if name.startswith(("latentjax", "configs"))}
  assert {name for name in own if not name.startswith(allowed)} == set()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_wing_keeps_its_tools(path):
  place = str(path.relative_to(ROOT))
  used = imports(path)
  top_level = {
    alias.name
    for node in ast.parse(path.read_text()).body
    if isinstance(node, ast.Import | ast.ImportFrom)
    for alias in node.names
  }
  assert place.startswith("latentjax/models") or not any(name.startswith("flax.linen") for name in used)
  assert not any(name.split(".")[0] in ("pickle", "tensorflow") for name in used)
  assert not any(name.startswith(("tensorflow_datasets", "mlxtend")) for name in top_level)
  of_flags = place in ("latentjax/command_line.py", "latentjax/overrides.py")
  assert of_flags or not any(name.startswith("absl") for name in used)


def test_the_command_line_begins_light():
  """Signal handlers are installed before anything slow is imported, and flags are parsed before JAX is."""
  heavy = "import sys, latentjax.__main__; print(sorted({'absl', 'jax', 'numpy', 'rich'} & sys.modules.keys()))"
  later = "import sys, latentjax.command_line; print(sorted({'jax', 'flax', 'matplotlib'} & sys.modules.keys()))"
  for code in (heavy, later):
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout == "[]\n"


def test_nothing_is_unpickled():
  """Pickle in any of its guises would let a file in a workdir or cache execute code."""
  forbidden = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "torch"}
  for path in (*SOURCES, ROOT / "main.py"):
    assert not {name.split(".")[0] for name in imports(path)} & forbidden, path
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
        assert ast.unparse(node.value) == "False", path
