"""report.md: the lines of results.jsonl as tables, built anew after each of them."""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.accelerator.log import Line
from benchmarks.accelerator.plan import PARTS

Columns = dict[str, Callable[[Line], Any]]


def report(lines: list[Line], total: int) -> str:
  """The whole report.

  Args:
    lines: of the log; the first is the machine.
    total: how many measurements there are.
  """
  machine, lines = lines[0], lines[1:]
  counts = {status: sum(line["status"] == status for line in lines) for status in ("measured", "failed", "skipped")}
  said = [
    *heading(machine),
    f"Of {total} measurements {counts['measured']} are made, {counts['failed']} failed, {counts['skipped']} cannot be"
    f" made here, and {total - sum(counts.values())} are left: the same command goes on with them.",
  ]
  tables = {"steps": steps, "peers": peers, "options": options, "seeds": seeds, "target": trainings, "paper": trainings}
  for part, title in PARTS.items():
    of_part = [line for line in lines if line["part"] == part]
    if of_part:
      said += ["", f"## {title}", "", *tables[part](of_part, lines)]
  return "\n".join(said) + "\n"


def heading(machine: Line) -> list[str]:
  about = machine["result"]
  smi = "".join(f"; {name} {value}" for name, value in (about["nvidia_smi"] or {}).items() if name != "name")
  packages = ", ".join(f"{name} {version}" for name, version in about["packages"].items())
  rehearsal = ["**A rehearsal: tiny models, few repetitions. These numbers mean nothing.**", ""]
  return [
    f"# latentjax on {about['device']}",
    "",
    *(rehearsal if machine["rehearsal"] else []),
    f"{about['devices']} x {about['device']} ({about['platform']}; {about['runtime']}{smi}); {about['cpu_cores']} cores"
    f" of {about['processor']}; Python {about['python']}, {packages}"
    + "".join(f"; {name}={value}" for name, value in about["environment"].items())
    + f". One device is used. {machine['at']}.",
    "",
  ]


def markdown(columns: Columns, lines: list[Line]) -> list[str]:
  """A table with a row for each line; what a line does not have is a dash, and its remark says why."""

  def cell(show, line):
    try:
      return str(show(line))
    except (KeyError, TypeError, IndexError):
      return "-"

  columns = columns | {"remark": remark}
  rows = [[cell(show, line).replace("|", "\\|") for show in columns.values()] for line in lines]
  return [f"| {' | '.join(row)} |" for row in ([*columns], ["---"] * len(columns), *rows)]


def remark(line: Line) -> str:
  if line["status"] != "measured":
    return f"{line['status']}: {line['reason']}"
  problem = (line["result"] or {}).get("trace_problem")
  return f"no trace: {problem}" if problem else ""


def steps(lines: list[Line], _: list[Line]) -> list[str]:
  table = markdown(
    {
      "config": lambda line: line["config"],
      "batch": lambda line: line["batch_size"],
      "ms per step": lambda line: f"{line['result']['step_time_ms']:.3f}",
      "images/s": lambda line: f"{line['result']['images_per_second']:,.0f}",
      "device busy": lambda line: f"{line['result']['busy_ms'] / line['result']['step_time_ms']:.0%}",
      "kernels per step": lambda line: f"{line['result']['kernels_per_step']:,.0f}",
      "of matrix rate": lambda line: f"{line['result']['matmul_ratio']:.2%}",
      "GFLOP/s": lambda line: f"{line['result']['flops_per_second'] / 1e9:,.0f}",
      "s to compile": lambda line: f"{line['result']['compile_seconds']:.1f}",
      "peak MiB": lambda line: f"{line['result']['peak_memory_bytes'] / 2**20:,.0f}",
    },
    lines,
  )
  note = (
    "Device busy is the time in which a kernel ran in a trace, where XLA launches them one by one, of the time of a"
    " step without one. The matrix rate is that of a large product on this device at the same precision. A program that"
    " an earlier measurement has compiled comes from the cache: then its seconds are those of reading it."
  )
  return [*table, "", note, *(text for line in lines for text in kernels(line))]


def kernels(line: Line) -> list[str]:
  """The dearest kernels of a traced step."""
  result = line["result"] or {}
  if "dearest" not in result:
    return []
  head = f"The dearest kernels of {line['config']}, batch {line['batch_size']}:"
  rows = [
    f"| `{one['kernel'][:60]}` | {one['per_step']:.1f} | {one['us_per_step']:.2f} |"
    f" {one['us_per_step'] / result['us_of_all']:.1%} |"
    for one in result["dearest"]
  ]
  return ["", head, "", "| kernel | per step | us per step | of all kernels' time |", "|---|---|---|---|", *rows]


def peers(lines: list[Line], _: list[Line]) -> list[str]:
  """A row for each way of each race."""

  def of_way(line, way):
    results = (line["result"] or {}).get("results")  # of a race that failed those of the other way
    if results and f"torch {way}" in results[0]["turns"]:
      line = line | {"status": "measured"}
    elif results:
      line = line | {"status": "failed", "reason": f"it did not start: work/{line['name']}.log"}
    return line | {"way": way}

  def times(line):
    turns = line["result"]["results"][0]["turns"]
    return np.array(turns["latentjax"]), np.array(turns[f"torch {line['way']}"])

  def ratio(line):
    ours, theirs = times(line)
    return f"{np.median(theirs / ours):.2f} ({np.min(theirs / ours):.2f} to {np.max(theirs / ours):.2f})"

  return markdown(
    {
      "config": lambda line: line["config"],
      "precision": lambda line: line["precision"],
      "batch": lambda line: line["batch_size"],
      "seeds": lambda line: line["num_seeds"],
      "PyTorch": lambda line: line["way"] + (", vmap" if line["num_seeds"] > 1 else ""),
      "latentjax, ms": lambda line: f"{np.median(times(line)[0]):.3f}",
      "PyTorch, ms": lambda line: f"{np.median(times(line)[1]):.3f}",
      "PyTorch takes x (least to greatest)": ratio,
    },
    [of_way(line, way) for line in lines for way in line["ways"]],
  )


def options(lines: list[Line], others: list[Line]) -> list[str]:
  """Beside the step as it is by default."""
  return markdown(
    {
      "config": lambda line: line["config"],
      "option": lambda line: line["option"],
      "ms per step": lambda line: f"{line['result']['step_time_ms']:.3f}",
      "by default": lambda line: f"{plain(line, others)['step_time_ms']:.3f}",
      "takes x": lambda line: f"{line['result']['step_time_ms'] / plain(line, others)['step_time_ms']:.3f}",
      "p90 of both": lambda line: " / ".join(
        f"{result['step_time_ms_p90']:.3f}" for result in (line["result"], plain(line, others))
      ),
      "peak MiB": lambda line: f"{line['result']['peak_memory_bytes'] / 2**20:,.0f}",
    },
    lines,
  )


def seeds(lines: list[Line], others: list[Line]) -> list[str]:
  def share(line):
    return line["result"]["step_time_ms_per_seed"] / plain(line, others)["step_time_ms"]

  together, beside = ([line for line in lines if ("ways" in line) == with_peer] for with_peer in (False, True))
  first = {line["config"]: line for line in together}
  alone = [line for line in others if line["part"] == "steps" and is_plain(line, first.get(line["config"]))]
  table = markdown(
    {
      "config": lambda line: line["config"],
      "seeds": lambda line: line["num_seeds"],
      "ms per step": lambda line: f"{line['result']['step_time_ms']:.3f}",
      "ms per step and seed": lambda line: f"{line['result']['step_time_ms_per_seed']:.4f}",
      "of one alone": lambda line: f"{share(line):.1%}",
      "images/s of all": lambda line: f"{line['result']['images_per_second']:,.0f}",
      "MiB per seed": lambda line: f"{line['result']['peak_memory_bytes_per_seed'] / 2**20:,.1f}",
    },
    sorted([*alone, *together], key=lambda line: (line["config"], line["num_seeds"])),
  )
  return [*table, *(["", *peers(beside, others)] if beside else [])]


def plain(line: Line, others: list[Line]) -> Line:
  """The result of the same config and batch size with one seed and without options, if there is one."""
  return next((other["result"] for other in others if other["part"] == "steps" and is_plain(other, line)), {})


def is_plain(step: Line, line: Line | None) -> bool:
  same = line is not None and all(step[fact] == line[fact] for fact in ("config", "batch_size"))
  return same and step["result"] is not None


def trainings(lines: list[Line], _: list[Line]) -> list[str]:
  def test(line):
    found = line["result"]["test"]
    return f"{found['elbo']:.2f}, {found['nll']:.2f} ± {found['nll_stderr']:.2f}"

  def reached(line):
    result = line["result"]
    return "-" if result["until"] is None else "yes" if result["reached"] else "no"

  table = markdown(
    {
      "config": lambda line: line["config"],
      "epochs": lambda line: line["result"]["epochs"],
      "seconds of epochs": lambda line: f"{line['result']['epoch_seconds']:,.1f}",
      "of the last call": lambda line: f"{line['result']['call_seconds']:,.1f}",
      "validation ELBO": lambda line: f"{line['result']['validation_elbo']:.2f}",
      "best": lambda line: f"{line['result']['best_validation_elbo']:.2f}",
      "was to reach": lambda line: f"{line['result']['until']:.2f}",
      "reached": reached,
      "images/s": lambda line: f"{line['result']['images_per_second']:,.0f}",
      "test ELBO, NLL": test,
    },
    lines,
  )
  note = (
    "The seconds of epochs are those of training and validation, with the compilation of validation and without"
    " checkpoints; those of the last call are all, with start-up, compilation and checkpoints."
  )
  return [*table, "", note]
