"""The original project's step: errors before anything is timed, and its config."""

import pytest

from benchmarks import original
from benchmarks.common import load_config


def test_a_directory_that_is_not_the_original_is_one_line(tmp_path, monkeypatch):
  monkeypatch.setattr("sys.argv", ["original", f"--checkout={tmp_path}"])
  with pytest.raises(SystemExit, match=r"^error: .*models/vae.py\. Give --checkout [^\n]*$"):
    original.main()


def test_the_original_gets_the_same_sizes():
  draw, ladder = (
    original.create_settings(load_config(name).model) for name in ("draw:filterbank", "ladder_vae:default")
  )
  assert (draw["T"], draw["N"], draw["h_dim"], draw["z_dim"], draw["attention"]) == (10, 12, 256, 32, "filterbank")
  assert (ladder["h_dim"], ladder["z_dim"]) == ([512, 256, 256], [64, 32, 32])
