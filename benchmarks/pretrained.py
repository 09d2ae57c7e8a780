"""Makes a pretrained model, which ships with the package, from a finished run of one seed.

    python -m benchmarks.pretrained WORKDIR NAME [--machine="two cores of an AMD EPYC 9354"]

Writes latentjax/pretrained/NAME: config.json, model.safetensors with float16 weights, and results.json, which adds to
the results of the run their origin (command, minutes, machine, commit), the difference that float16 makes to the test
ELBO with the same noise, and for binary images of 28 x 28 pixels the ELBO of the 200 digits of
`latentjax.sample_digits` with seed 0. Tests compute both ELBOs again. A model whose test ELBO differs by
0.01 nats or more is refused.
"""

import dataclasses
import shlex
from itertools import pairwise
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.common import create_parser
from latentjax.data.dataset import load_dataset
from latentjax.inference import evaluation, pretrained
from latentjax.inference.trained_model import TrainedModel, load_seed
from latentjax.runtime.errors import RunError, UsageError
from latentjax.workdir import records, weights
from latentjax.workdir.directory import parse_workdir
from latentjax.workdir.run import Run, RunStatus

LARGEST_DIFFERENCE = 0.01  # nats
DIGITS_SEED = 0


def main() -> None:
  parser = create_parser(__doc__)
  parser.add_argument("workdir", metavar="WORKDIR")
  parser.add_argument("name", metavar="NAME", help="such as draw-mnist")
  parser.add_argument("--machine", help="default: the device in config.json, which does not name a CPU")
  options = parser.parse_args()
  try:
    write_pretrained(parse_workdir(options.workdir), options.name, options.machine)
  except (UsageError, RunError, ValueError) as error:
    raise SystemExit(f"error: {error}") from None


def write_pretrained(workdir: Path, name: str, machine: str | None = None) -> None:
  """Writes the directory of a pretrained model; raises UsageError if the run or its float16 weights do not suit."""
  run = Run.open(workdir)
  if run.status is not RunStatus.FINISHED or len(run.seeds) > 1:
    raise UsageError(f"{workdir} is not a finished run of one seed. Train it to its end, or choose another.")
  single = load_seed(run.config, workdir)
  variables = jax.tree.map(lambda x: x.astype(jnp.float16), single.variables)
  half = dataclasses.replace(single, variables=jax.tree.map(lambda x: x.astype(jnp.float32), variables))
  data = load_dataset(**run.config.data.to_dict())
  run.check_data(data.sha256)
  difference = mean_elbo(half, data.test) - mean_elbo(single, data.test)
  if not abs(difference) < LARGEST_DIFFERENCE:  # also true for NaN
    raise UsageError(f"float16 weights change the test ELBO by {difference:.4f} nats. Choose another run.")
  digits = digits_elbo(half)
  history = [{**entry, "command": portable(entry["command"])} for entry in run.provenance]
  git = history[-1]["git"] or {"commit": None, "dirty": False}
  results = run.results | {
    "command": " && ".join(dict.fromkeys(entry["command"] for entry in history)),
    "minutes": run.results["train_minutes"],
    "machine": machine or history[-1]["device"],
    "commit": f"{git['commit']}, with changes" if git["dirty"] else git["commit"],
    "float16_difference": difference,
    **({} if digits is None else {"digits_elbo": digits}),
  }
  out = pretrained.DIRECTORY / name
  out.mkdir(parents=True, exist_ok=True)
  records.write_config(out, run.config, single.image_shape, history[-1], history[:-1])
  weights.write_weights(out / weights.weights_name(1), single.image_shape, run.seeds[0], single.step, variables)
  records.write_results(out, results)
  print(f"{out}: test ELBO {run.results['test']['elbo']:.2f}, float16 {difference:+.5f} nats, digits {digits}")


def digits_elbo(trained: TrainedModel) -> float | None:
  """Returns the mean ELBO of the digits that ship, or None if the model is of other images."""
  digits = pretrained.sample_digits()
  if trained.config.data.binarization == "none" or trained.image_shape != digits.shape[1:]:
    return None
  return float(trained.elbo(digits, seed=DIGITS_SEED).mean(dtype=np.float64))


def mean_elbo(trained: TrainedModel, images: np.ndarray) -> float:
  """Returns the ELBO of a split with the noise of `latentjax evaluate`."""
  args = trained.inference, trained.variables, images, trained.keys.evaluate, trained.config.eval.batch_size
  return evaluation.evaluate_elbo(*args)["elbo"]


def portable(command: str) -> str:
  """Returns a command without the paths of its machine: the program's directory, and --workdir."""
  words = shlex.split(command)
  kept = [word for last, word in pairwise(words) if last != "--workdir" and not word.startswith("--workdir")]
  return shlex.join([Path(words[0]).name, *kept])


if __name__ == "__main__":
  main()
