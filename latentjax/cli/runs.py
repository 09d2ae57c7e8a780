"""Opening of the run that a command works on."""

from pathlib import Path

from ml_collections import ConfigDict

from latentjax import models
from latentjax.workdir.run import Run


def open_run(workdir: Path, config: ConfigDict, *may_change: str, may_be_new: bool = False) -> Run:
  """Opens a run whose performance keys may differ from the config's, besides `may_change`; see `Run.open`."""
  return Run.open(workdir, config, (*models.performance_keys(config.model), *may_change), may_be_new)
