"""The notebook's cells run, one after another, on a small model."""

import json
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import tiny

NOTEBOOK = Path(__file__).resolve().parents[2] / "examples" / "use_a_model.ipynb"


@pytest.fixture(scope="module")
def cells() -> list[dict]:
  return json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


def test_it_is_a_notebook_without_outputs(cells):
  """The notebook has the fields that nbformat 4.5 requires, and no others."""
  notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
  assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
  assert notebook.keys() == {"cells", "metadata", "nbformat", "nbformat_minor"}
  assert len({cell["id"] for cell in cells}) == len(cells)
  for cell in cells:
    expected = {"cell_type", "id", "metadata", "source"}
    if cell["cell_type"] == "code":
      expected |= {"execution_count", "outputs"}
      assert cell["outputs"] == []
      assert cell["execution_count"] is None
    assert cell.keys() == expected
    assert all(line.endswith("\n") for line in cell["source"][:-1])


def test_its_cells_run(cells, tmp_path, monkeypatch, capsys):
  matplotlib.use("Agg")
  from matplotlib import pyplot as plt

  tiny.write_untrained(tmp_path / "runs" / "draw-demo-20261231-235959", "draw", (28, 28, 1))
  monkeypatch.chdir(tmp_path)
  space: dict = {}
  try:
    for number, cell in enumerate(cells):
      if cell["cell_type"] == "code":
        exec(compile("".join(cell["source"]), f"cell {number}", "exec"), space)
    assert len(plt.get_fignums()) == 4  # reconstructions, the way, samples, the drawing
  finally:
    plt.close("all")
  assert space["model"].image_shape == (28, 28, 1)
  assert (space["log_likelihood"] < 0).all()
  assert np.isfinite(space["elbo"]).all()
  assert space["drawing"].canvases.shape == (3, 8, 28, 28, 1)
  assert capsys.readouterr().out.count("log-likelihood") == 8
