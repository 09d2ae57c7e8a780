"""Standard streams that are closed, full, or know few letters, as a process really has them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TALK = """
import os, sys
from latentjax.streams import keep_standard_streams
keep_standard_streams()
for number in range(20_000):
  print("said", number)
print("wrong", file=sys.stderr)
with open(sys.argv[1], "w") as file:
  file.write(f"{type(sys.stdout.failure).__name__} {file.fileno() > 2}")
"""


def talk(tmp_path: Path, redirection: str) -> str:
  """What a process came to whose output a shell sent there."""
  script, out = tmp_path / "talk.py", tmp_path / "out"
  script.write_text(TALK)
  command = f'set -o pipefail; "{sys.executable}" "{script}" "{out}" {redirection}'
  done = subprocess.run(
    ["bash", "-c", command], env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60
  )
  assert (done.returncode, "Error" in done.stderr, "Exception" in done.stderr) == (0, False, False), done.stderr
  return out.read_text()


@pytest.mark.parametrize(
  ("redirection", "failure"),
  [
    ("| head -1", "BrokenPipeError"),
    ("> /dev/full", "OSError"),
    ("> /dev/full 2> /dev/full", "OSError"),
    (">&-", "NoneType"),
    (">&- 2>&- <&-", "NoneType"),
    ("> /dev/null", "NoneType"),
  ],
)
def test_what_cannot_be_said_ends_nothing(tmp_path, redirection, failure):
  """And no file that is opened takes the number of a closed stream, into which libraries would write."""
  assert talk(tmp_path, redirection) == f"{failure} True"


def test_a_letter_that_the_locale_lacks_is_its_code():
  code = "import sys; from latentjax.streams import keep_standard_streams as keep; keep(); print('\\u6f22')"
  environment = os.environ | {"PYTHONIOENCODING": "ascii"}
  done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, timeout=60)
  assert (done.stdout, done.stderr) == (b"\\u6f22\n", b"")
