"""report.md: the results as Markdown tables."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from benchmarks.accelerator.session import Line
from latentjax.runtime.fileio import write_atomic

PLAIN = (1, "float32", "")  # seeds, precision, changes to the plan
SAME = {"config": "{config}", "batch": "{batch_size}", "seeds": "{num_seeds}", "precision": "{precision}"}
STEP = SAME | {
  "ms per step": "{step_time_ms:.3f}",
  "per seed, x plain": "{relative:.3f}",
  "images/s": "{images_per_second:,.0f}",
  "device busy": "{busy:.0%}",
  "kernels per step": "{kernels_per_step:,.0f}",
  "of matrix rate": "{matmul_ratio:.2%}",
  "s to compile": "{compile_seconds:.1f}",
  "peak MiB": "{peak_mib:,.0f}",
}
PYTORCH = SAME | {
  "PyTorch": "{variant}",
  "latentjax, ms": "{latentjax_ms:.3f}",
  "PyTorch, ms": "{pytorch_ms:.3f}",
  "x latentjax (least to greatest)": "{ratio[0]:.2f} ({ratio[1]:.2f} to {ratio[2]:.2f})",
}
TRAINING = {
  "config": "{config}",
  "epochs": "{epoch}",
  "seconds of epochs": "{seconds:,.1f}",
  "seconds of the last call": "{call_seconds:,.1f}",
  "validation ELBO": "{validation_elbo:.2f}",
  "images/s": "{images_per_second:,.0f}",
}


def write(path: Path, lines: Iterable[Line], parts: Mapping[str, str], total: int) -> None:
  """Writes the report: the machine, described by the first line, and a section for each part with its title."""
  machine, *lines = lines
  measured, failed = (sum(line["status"] == status for line in lines) for status in ("measured", "failed"))
  rehearsal = " (a rehearsal with tiny models: these numbers mean nothing)" if machine["rehearse"] else ""
  text = [f"# latentjax on {machine['device_kind']}{rehearsal}", ""]
  text += [f"- {name}: {value}".replace("\n", "; ") for name, value in machine["result"].items() if value]
  text += ["", f"{measured} of {total} measurements are done and {failed} failed.", ""]
  plain = {}  # ms of a step in float32, of one seed, by the device's own plan
  for line in lines:
    if "step_time_ms" in line.get("result", {}) and (line["num_seeds"], line["precision"], line["plan"]) == PLAIN:
      plain[_program(line)] = line["result"]["step_time_ms"]
  for part, title in parts.items():
    rows = [line for line in lines if line["part"] == part]
    steps = [_step_cells(line, plain) for line in rows if not line["variants"]]
    compared = [_pytorch_cells(line, variant) for line in rows for variant in line["variants"]]
    text += [f"## {title}", ""] if rows else []
    text += _table(TRAINING if part in ("target", "paper") else STEP, steps) + _table(PYTORCH, compared)
  write_atomic(path, "\n".join(text) + "\n")


def _program(line: Line) -> tuple:
  return line["config"], line["batch_size"], *line["changes"]


def _step_cells(line: Line, plain: Mapping[tuple, float]) -> dict:
  cells = line | line.get("result", {})
  cells["config"] = " ".join(filter(None, [line["config"], *line["changes"], line["plan"]]))
  cells["remark"] = cells.get("problem", "") if line["status"] == "measured" else f"{line['status']}: {line['reason']}"
  if "step_time_ms" in cells:
    cells["relative"] = cells["step_time_ms_per_seed"] / plain.get(_program(line), np.nan)
    cells["busy"] = cells.get("busy_ms", np.nan) / cells["step_time_ms"]
    cells["peak_mib"] = (cells["peak_memory_bytes"] or np.nan) / 2**20
  return cells


def _pytorch_cells(line: Line, variant: str) -> dict:
  cells, name = {"variant": variant, "times_ms": {}, "problems": {}} | line | line.get("result", {}), f"torch {variant}"
  problem = cells["problems"].get(name, "")
  cells["remark"] = problem if line["status"] == "measured" else f"{line['status']}: {line['reason']}"
  if name in cells["times_ms"]:
    ours, theirs = np.array(cells["times_ms"]["latentjax"]), np.array(cells["times_ms"][name])
    cells |= {"latentjax_ms": np.median(ours), "pytorch_ms": np.median(theirs)}
    cells["ratio"] = np.quantile(theirs / ours, (0.5, 0, 1))
  return cells


def _table(columns: Mapping[str, str], rows: list[dict]) -> list[str]:
  """Returns a table, or nothing without rows; a missing number is a dash, and the remark says why."""

  def cell(template, row):
    try:
      return template.format(**row).replace("nan%", "-").replace("nan", "-")
    except (KeyError, TypeError):
      return "-"

  lines = [[*columns, "remark"], ["---"] * (len(columns) + 1)]
  lines += [[*(cell(each, row) for each in columns.values()), row["remark"].replace("|", "\\|")] for row in rows]
  return [*(f"| {' | '.join(line)} |" for line in lines), ""] if rows else []
