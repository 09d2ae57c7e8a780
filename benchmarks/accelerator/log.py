"""results.jsonl: a line for everything that became of a measurement, of which the last counts."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Line = dict[str, Any]


class Log:
  """The lines of a directory's results.jsonl, by measurement.

  Args:
    path: of the file; half a last line, which a kill may leave, is dropped.
    written: called with every new line.
    again: whether what has failed is not final.
  """

  def __init__(self, path: Path, written: Callable[[Line], None] = lambda line: None, again: bool = False):
    self._path, self.written = path, written
    self._lines: dict[str, Line] = {}
    self._final = ("measured",) if again else ("measured", "failed")
    texts = path.read_text(encoding="utf-8").split("\n") if path.exists() else [""]
    for text in texts[:-1]:  # the last is empty, or was cut short
      line = json.loads(text)
      self._lines[line["name"]] = line
    if texts[-1]:
      path.write_text("".join(text + "\n" for text in texts[:-1]), encoding="utf-8")

  @property
  def lines(self) -> list[Line]:
    """The last line of each measurement, in the order in which they were first met."""
    return list(self._lines.values())

  def is_final(self, name: str) -> bool:
    return name in self._lines and self._lines[name]["status"] in self._final

  def add(self, measurement, status: str, reason: str, seconds: float = 0.0, result: Line | None = None) -> None:
    """Appends a line, unless it would say again why something is skipped.

    Args:
      measurement: a `Measurement`.
      status: measured, failed, stopped (to be begun again, or gone on with) or skipped.
    """
    name = measurement.name
    before = self._lines.get(name, {})
    if status == "skipped" and (before.get("status"), before.get("reason")) == (status, reason):
      return
    line = {
      "name": name,
      "part": measurement.part,
      **measurement.facts,
      "status": status,
      "reason": reason,
      "seconds": round(seconds, 1),
      "at": time.strftime("%Y-%m-%d %H:%M:%S"),
      "result": result,
    }
    self._lines[name] = line
    with self._path.open("a", encoding="utf-8") as file:
      file.write(json.dumps(line) + "\n")
      file.flush()
      os.fsync(file.fileno())
    self.written(line)
