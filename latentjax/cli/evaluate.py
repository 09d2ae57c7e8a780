"""`latentjax evaluate`: evaluates the best checkpoint of a run and writes its results and weights."""

from pathlib import Path

from ml_collections import ConfigDict

from latentjax import models
from latentjax.runtime.console import console
from latentjax.runtime.errors import UsageError
from latentjax.training import restore, results
from latentjax.training.experiment import create_experiment
from latentjax.workdir import weights
from latentjax.workdir.checkpoints import Checkpointer
from latentjax.workdir.run import Run


def run(config: ConfigDict, workdir: Path) -> None:
  """Evaluates the best checkpoint of `workdir`; another seed in the config changes the evaluation noise only.

  With `eval.num_examples` above 0 it prints the table and writes nothing.
  """
  # Reads metrics.jsonl before the checkpoints: training may be in progress.
  run = Run.open(workdir, config, ("seed", *models.performance_keys(config.model)))
  quick = config.eval.num_examples > 0
  if not quick:
    run.check_writable()
  experiment = create_experiment(config)
  run.check_data(experiment.data.sha256)
  checkpoints = Checkpointer(workdir / "checkpoints", read_only=True)
  if not checkpoints.best_steps:
    hint = " yet. `latentjax train` writes one after every epoch."
    name = weights.weights_name(config.train.num_seeds)
    if (workdir / name).exists():
      hint = f". Its {name} suffices for sample, encode, explore and export."
    raise UsageError(f"{workdir} has no checkpoint{hint}")
  seeds = list(restore.select_best(experiment, checkpoints, experiment.train_fns.init(experiment.keys.init)))
  if quick:
    results.print_results(run, experiment, results.measure_run(run, experiment, seeds))
    console.print("eval.num_examples is above 0: nothing is written")
  else:
    results.evaluate_and_write(run, experiment, seeds)
