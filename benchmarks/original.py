"""Times the training steps of the original PyTorch project and of latentjax, with the same sizes, interleaved.

    python -m benchmarks.original --checkout=DIR [--configs vae:default draw:base ...] [--rounds 20]

DIR is a checkout of simonamtoft/recurrence-and-attention-latent-variable-models. Its models and training functions run
unchanged: its loss, Adam as PyTorch sets it by default, and three losses read per step. Not counted are its DataLoader,
which binarizes the images, and its logging to Weights & Biases. latentjax binarizes within the step, clips the gradient
and averages the weights. Attention of the original uses the window of the first image for the whole batch, so
draw:filterbank is timed at batch size one, as the original trains it.
"""

import contextlib
import importlib
import importlib.util
import json
import os
import sys
import time
from functools import partial
from pathlib import Path
from unittest import mock

from rich.console import Console

from benchmarks.common import CONFIGS, IMAGE_SHAPE, create_parser, load_config, output_file, positive, random_images
from benchmarks.compare_pytorch import ADAM, Contestant, compare, create_table, load_contestant

LOGGING = ("wandb", "torchvision", "torchvision.utils", "matplotlib", "matplotlib.pyplot")  # that it imports
CLASSES = {"vae": "VariationalAutoencoder", "ladder_vae": "LadderVAE", "draw": "DRAW"}


class _EndOfTurnError(Exception):
  """Ends a training function of the original after the last batch of a turn."""


def main() -> None:
  parser = create_parser(__doc__)
  parser.add_argument("--checkout", type=Path, required=True, metavar="DIR", help="the original project")
  parser.add_argument("--configs", nargs="+", default=CONFIGS, choices=CONFIGS, metavar="FILE:VARIANT")
  parser.add_argument("--batch-size", type=positive, default=128, help="except draw:filterbank, which takes 1")
  parser.add_argument("--rounds", type=positive, default=20)
  parser.add_argument("--turn", type=float, default=1.0, metavar="SECONDS", help="of each contestant in a round")
  parser.add_argument("--json", type=output_file, help="also write all times to this file")
  options = parser.parse_args()
  check_checkout(options.checkout)
  if importlib.util.find_spec("torch") is None:
    raise SystemExit("error: PyTorch is not installed. Run this in the environment that `make benchmark` creates.")
  results = []
  for name in options.configs:
    config = load_config(name, ADAM)
    batch_size = 1 if name == "draw:filterbank" else options.batch_size
    create = {
      "latentjax": partial(load_contestant, "latentjax", name, ADAM, batch_size),
      "original": partial(create_original, options.checkout.resolve(), name, batch_size),
    }
    times = compare(create, options.rounds, options.turn, config.train.steps_per_call)
    results.append({"config": name, "batch_size": batch_size, "times_ms": times})
    title = f"batch {batch_size}, {len(os.sched_getaffinity(0))} cores, {options.rounds} rounds"
    Console(width=100).print(create_table(results[-1:], batch_size, title))
  if options.json:
    options.json.write_text(json.dumps({"results": results}, indent=2) + "\n")


def check_checkout(checkout: Path) -> None:
  """Raises SystemExit if the directory lacks a file of the original project."""
  for file in ("models/vae.py", "models/laddervae.py", "models/draw.py", "training/train_vae.py"):
    if not (checkout / file).is_file():
      problem = f"error: {checkout} is not the original project: it has no {file}."
      raise SystemExit(f"{problem} Give --checkout the directory of a clone of it.")


def create_original(checkout: Path, name: str, batch_size: int) -> Contestant:
  """Prepares and warms up the original's training function; runs in a process of its own."""
  import torch

  torch.set_num_threads(len(os.sched_getaffinity(0)))  # as many as latentjax uses
  fields = load_config(name).model
  sys.modules.update({module: mock.MagicMock() for module in LOGGING})
  sys.path.insert(0, str(checkout))
  models, training = (importlib.import_module(package) for package in ("models", "training"))
  settings, is_draw = create_settings(fields), fields.name == "draw"
  shape = IMAGE_SHAPE[:2] if is_draw else IMAGE_SHAPE[0] * IMAGE_SHAPE[1]
  device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
  model = getattr(models, CLASSES[fields.name])(settings, shape).to(device)
  train = training.train_draw if is_draw else training.train_vae
  start_weights = {key: value.clone() for key, value in model.state_dict().items()}
  pixels = torch.bernoulli(torch.from_numpy(random_images(batch_size)).float() / 255)
  batches = [(batch.permute(0, 3, 1, 2).contiguous(), None) for batch in pixels.split(batch_size)]

  def time_steps(steps: int) -> float:
    """Trains one step more, since the first creates the optimizer's state, and returns the seconds of the others."""
    times = []

    def loader():
      for index in range(steps + 1):
        times.append(time.perf_counter())
        yield batches[index % len(batches)]
      times.append(time.perf_counter())  # each step has waited for the device to read its losses
      raise _EndOfTurnError

    model.load_state_dict(start_weights)  # trained on noise for long, its attention may leave the image
    with contextlib.suppress(_EndOfTurnError), contextlib.redirect_stdout(None):
      train(model, settings, loader(), ())
    return times[-1] - times[1]

  def time_calls(calls: int, steps: int) -> float:
    return sum(time_steps(steps) for _ in range(calls))

  time_calls(3, 2)
  return Contestant(time_calls, 2, {"cuda": "gpu"}.get(device.type, device.type))


def create_settings(fields) -> dict:
  """Returns the original's config of a model with the same sizes."""
  settings = {"lr": 1e-3, "epochs": 1, "kl_warmup": False, "as_beta": False}
  if fields.name == "draw":
    attention = {"none": "base"}.get(fields.attention, fields.attention)
    sizes = {"h_dim": fields.hidden_dim, "z_dim": fields.latent_dim, "T": fields.num_steps, "N": fields.read_size}
    return settings | sizes | {"attention": attention}
  latents = fields.latent_dim if fields.name == "vae" else list(fields.latent_dims)
  return settings | {"h_dim": list(fields.hidden_dims), "z_dim": latents}


if __name__ == "__main__":
  main()
