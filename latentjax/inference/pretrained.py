"""Models that ship with the package, and the digits to try them on.

Each is a directory latentjax/pretrained/NAME with config.json, model.safetensors (float16) and results.json, written by
`python -m benchmarks.pretrained`.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from latentjax.config.files import PACKAGE
from latentjax.workdir import records
from latentjax.workdir.weights import weights_name

DIRECTORY = PACKAGE / "pretrained"
DIGITS = PACKAGE / "pretrained" / "mnist_test_digits.npy"  # [200, H * W / 8] uint8, eight pixels each


class Pretrained(NamedTuple):
  """A model that `latentjax.load` loads by its name; values in nats per image."""

  name: str
  model: str  # display name, such as 'DRAW, filterbank attention'
  data: str  # name of the dataset
  parameters: int
  bytes: int  # size of the weights file
  test_elbo: float
  test_nll: float
  nll_samples: int  # K of `test_nll`


def names() -> list[str]:
  return sorted(path.parent.name for path in DIRECTORY.glob("*/config.json"))


def find(name: str) -> Path | None:
  """Returns the directory of the pretrained model of this name, which can be read as a workdir; None if unknown."""
  return DIRECTORY / name if name in names() else None


def list_pretrained() -> list[Pretrained]:
  """Implements `latentjax.pretrained`."""
  return [_describe(name) for name in names()]


def _describe(name: str) -> Pretrained:
  results = records.read_results(DIRECTORY / name)
  return Pretrained(
    name=name,
    model=results["model"],
    data=results["data"],
    parameters=results["parameters"],
    bytes=(DIRECTORY / name / weights_name(num_seeds=1)).stat().st_size,
    test_elbo=results["test"]["elbo"],
    test_nll=results["test"]["nll"],
    nll_samples=results["test"]["nll_samples"],
  )


def sample_digits() -> np.ndarray:
  """Implements `latentjax.sample_digits`."""
  pixels = np.unpackbits(np.load(DIGITS, allow_pickle=False), axis=1)
  return (pixels * np.uint8(255)).reshape(-1, 28, 28, 1)
