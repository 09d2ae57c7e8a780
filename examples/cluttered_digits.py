"""Classification of cluttered digits with attention (Gregor et al. 2015, arXiv:1502.04623, table 1).

    python -m examples.cluttered_digits --workdir=runs/cluttered --config.data.name=mnist

A digit lies anywhere on a canvas of 100 x 100 pixels among eight 8 x 8 pieces of other digits. An LSTM reads eight
glimpses through a 12 x 12 window, placed by its previous state, and then classifies the digit. Canvases are composed on
the device in every training step. A stopped run resumes at its last report by the same command; --config.train.steps=0
tests the best weights so far by validation error.

Shapes: M images, B batch, S canvas size, N window size, T glimpses.
"""

import json
import math
import sys
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags
from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from ml_collections import ConfigDict, config_flags

from latentjax.data import dataset
from latentjax.data.two_digits import add_at
from latentjax.models.draw import attention
from latentjax.models.draw.attention_cpu import filterbanks_cpu, read_cpu
from latentjax.models.layers import init_linear, linear
from latentjax.models.recurrent import LSTMState, init_lstm, lstm
from latentjax.runtime.errors import RunError, UsageError


def get_config() -> ConfigDict:
  data = {
    "name": "mnist",  # or mnist_digits, without a download, or any dataset with labels from 0 to 9
    "canvas_size": 100,  # S
    "num_pieces": 8,  # of other digits
    "piece_size": 8,
  }
  model = {
    "num_glimpses": 8,  # T
    "window_size": 12,  # N
    "hidden_dim": 256,
    "init_log_variance": 2.0,  # initial log variance; the initial window spans the canvas
  }
  train = {
    "batch_size": 64,
    "steps": 20_000,
    "learning_rate": 1.5e-3,  # falls to 0 along a cosine
    "clip_norm": 1.0,
    "ema_decay": 0.999,  # moving average of weights for evaluation
    "report_steps": 500,  # steps between validations, each of which saves the state
  }
  return ConfigDict({"seed": 0, "data": data, "model": model, "train": train})


def make_canvases(data: ConfigDict, key: jax.Array, images: jax.Array, targets: jax.Array) -> jax.Array:
  """Returns canvases [B, S, S, 1] in [0, 1]: the sum of an image and pieces of others at random positions, clipped.

  Args:
    data: `config.data`.
    key: Random key.
    images: [M, H, W, 1] uint8.
    targets: [B] indices of the images that are shown whole.
  """
  size, positions = data.piece_size, data.canvas_size - images.shape[1] + 1

  def make(key, target):
    keys = jax.random.split(key, 4)
    canvas = jnp.zeros((data.canvas_size, data.canvas_size, 1), jnp.uint16)
    canvas = add_at(canvas, images[target], jax.random.randint(keys[0], (2,), 0, positions))
    others = jax.random.randint(keys[1], (data.num_pieces,), 0, len(images))
    crops = jax.random.randint(keys[2], (data.num_pieces, 2), 0, images.shape[1] - size + 1)
    corners = jax.random.randint(keys[3], (data.num_pieces, 2), 0, data.canvas_size - size + 1)
    for other, crop, corner in zip(others, crops, corners, strict=True):
      canvas = add_at(canvas, jax.lax.dynamic_slice(images, (other, *crop, 0), (1, size, size, 1))[0], corner)
    return jnp.minimum(canvas, 255).astype(jnp.float32) / 255

  return jax.vmap(make)(jax.random.split(key, len(targets)), targets)


def init(model: ConfigDict, key: jax.Array) -> dict:
  lstm_key, window_key, class_key = jax.random.split(key, 3)
  normal, units = jax.nn.initializers.lecun_normal(), model.hidden_dim
  window_bias = jnp.array([0.0, 0.0, model.init_log_variance, 0.0, 0.0])
  return {
    "lstm": init_lstm(lstm_key, normal, model.window_size**2, units, layer_norm=False),
    "window": init_linear(window_key, jax.nn.initializers.normal(0.01), units, 5) | {"bias": window_bias},
    "classes": init_linear(class_key, normal, units, 10),
    "initial": LSTMState(jnp.zeros(units), jnp.zeros(units)),
  }


def look(model: ConfigDict, weights: dict, canvases: jax.Array) -> tuple[jax.Array, attention.Window]:
  """Returns logits [T, B, 10] after every glimpse, and the windows with fields [T, B]."""

  def glimpse(canvas, parameters):
    size = model.window_size, *canvas.shape[:2]
    window = attention.window(parameters, *size)
    return read_cpu(canvas, filterbanks_cpu(window, window.intensity, *size)).reshape(-1), window

  def step(state, _):
    glimpses, windows = jax.vmap(glimpse)(canvases, linear(weights["window"], state.hidden))
    state = lstm(weights["lstm"], state, [glimpses])
    return state, (linear(weights["classes"], state.hidden), windows)

  state = jax.tree.map(lambda x: jnp.broadcast_to(x, (len(canvases), *x.shape)), weights["initial"])
  return jax.lax.scan(step, state, length=model.num_glimpses)[1]


def loss(weights: dict, model: ConfigDict, canvases: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns the cross-entropy in nats, averaged over glimpses, and the error rate after the last glimpse."""
  logits, _ = look(model, weights, canvases)
  losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.broadcast_to(labels, logits.shape[:-1]))
  return losses.mean(), (logits[-1].argmax(-1) != labels).mean()


def create_optimizer(train: ConfigDict) -> optax.GradientTransformation:
  rate = optax.cosine_decay_schedule(train.learning_rate, max(train.steps, 1))
  return optax.chain(optax.clip_by_global_norm(train.clip_norm), optax.adam(rate))


def initial_state(config: ConfigDict) -> dict:
  """Returns the state before the first step; `average` and `best` are weights to evaluate with."""
  weights = init(config.model, jax.random.split(jax.random.key(config.seed))[0])
  optimizer, best = create_optimizer(config.train).init(weights), {"error": jnp.ones(()), "weights": weights}
  return {"step": jnp.int32(0), "weights": weights, "average": weights, "optimizer": optimizer, "best": best}


def train_steps(config: ConfigDict, state: dict, images: jax.Array, labels: jax.Array, count: jax.Array):
  """Runs `count` steps; returns the new state, and the means [loss, error rate]."""
  train, optimizer = config.train, create_optimizer(config.train)
  key = jax.random.split(jax.random.key(config.seed))[1]

  def body(_, carry):
    state, total = carry
    target_key, canvas_key = jax.random.split(jax.random.fold_in(key, state["step"]))
    targets = jax.random.randint(target_key, (train.batch_size,), 0, len(images))
    batch = make_canvases(config.data, canvas_key, images, targets), labels[targets]
    value, gradient = jax.value_and_grad(loss, has_aux=True)(state["weights"], config.model, *batch)
    updates, opt_state = optimizer.update(gradient, state["optimizer"])
    weights = optax.apply_updates(state["weights"], updates)
    decay = jnp.minimum(train.ema_decay, (1 + state["step"]) / (10 + state["step"]))
    average = optax.incremental_update(weights, state["average"], 1 - decay)
    new = {"step": state["step"] + 1, "weights": weights, "average": average, "optimizer": opt_state}
    return state | new, total + jnp.stack(value)

  state, total = jax.lax.fori_loop(0, count, body, (state, jnp.zeros(2)))
  return state, total / count


def evaluation_canvases(data: ConfigDict, images: jax.Array, targets: jax.Array) -> jax.Array:
  """Returns canvases [B, S, S, 1] that are the same for every run and seed, so that error rates are comparable."""
  return make_canvases(data, jax.random.fold_in(jax.random.key(0), targets[0]), images, targets)


def evaluate(config: ConfigDict, weights: dict, images: jax.Array, labels: jax.Array) -> jax.Array:
  """Returns the error rate after every glimpse, [T], on one canvas per image."""

  def rates(targets):
    logits, _ = look(config.model, weights, evaluation_canvases(config.data, images, targets))
    return (logits.argmax(-1) != labels[targets][None]).mean(-1)

  return jax.lax.map(rates, jnp.arange(len(images)).reshape(-1, math.gcd(len(images), 500))).mean(0)


@style.context("default")  # not the user's, which may need TeX
def save_picture(path: Path, config: ConfigDict, weights: dict, images: jax.Array, labels: jax.Array, rows: int = 6):
  """Plots one canvas per row, with the window and the prediction after each glimpse."""
  canvases, columns = evaluation_canvases(config.data, images, jnp.arange(rows)), config.model.num_glimpses
  logits, windows = jax.device_get(look(config.model, weights, canvases))
  figure = Figure(figsize=(1.4 * columns, 1.55 * rows), layout="constrained")
  for (row, step), axis in np.ndenumerate(figure.subplots(rows, columns, squeeze=False)):
    axis.imshow(canvases[row], cmap="gray", vmin=0, vmax=1)
    axis.set(xticks=[], yticks=[], xlim=axis.get_xlim(), ylim=axis.get_ylim())
    center = np.array([windows.center_x[step, row], windows.center_y[step, row]])
    side = (config.model.window_size - 1) * windows.stride[step, row]
    axis.add_patch(Rectangle(center - side / 2, side, side, fill=False, color="#d55e00", linewidth=1.5))
    predicted = logits[step, row].argmax()
    axis.set_title(predicted, fontsize="small", pad=2, color="#009e73" if predicted == labels[row] else "#d55e00")
  figure.savefig(path, dpi=110)


def check_workdir(workdir: Path, config: ConfigDict) -> None:
  """Raises RunError if the workdir has another config; only `train.steps` may change."""
  path, fields = workdir / "config.json", config.to_dict()
  del fields["train"]["steps"]
  if not path.exists():
    workdir.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(fields, indent=2))
  elif json.loads(path.read_text()) != fields:
    raise RunError(f"{path} has another config. Choose another --workdir.")


def run(config: ConfigDict, workdir: Path) -> None:
  data = dataset.load_dataset(config.data.name, "none")
  if len(data.labels) < 3:
    raise UsageError(f"data.name = {config.data.name} has no labels. Use mnist or mnist_digits.")
  train, validation, test = ((jnp.asarray(getattr(data, split)), jnp.asarray(y)) for split, y in data.labels.items())
  check_workdir(workdir, config)
  path, state = workdir / "state.npz", initial_state(config)
  if path.exists():
    with np.load(path, allow_pickle=False) as arrays:
      state = jax.tree.unflatten(jax.tree.structure(state), [jnp.asarray(arrays[name]) for name in arrays.files])
  advance, rates = jax.jit(partial(train_steps, config)), jax.jit(partial(evaluate, config))
  started = time.monotonic()
  while (remaining := config.train.steps - int(state["step"])) > 0:
    state, (value, error) = advance(state, *train, min(remaining, config.train.report_steps))
    validation_error = rates(state["average"], *validation)[-1]
    if validation_error <= state["best"]["error"]:
      state["best"] = {"error": validation_error, "weights": state["average"]}
    np.savez(unfinished := workdir / "unfinished.npz", *jax.tree.leaves(state))
    unfinished.replace(path)
    print(f"{(time.monotonic() - started) / 60:.1f} minutes, step {state['step']}: loss {value:.3f}", end=", ")
    print(f"error {error:.2%}, validation error {validation_error:.2%}", flush=True)
  print("test error after each glimpse:", *(f"{rate:.2%}" for rate in rates(state["best"]["weights"], *test)))
  save_picture(workdir / "glimpses.png", config, state["best"]["weights"], *test)


def main(argv: list[str]) -> None:
  try:
    if argv[1:]:
      raise UsageError(f"{argv[1]!r} is not a flag. See --help.")
    run(CONFIG.value, Path(WORKDIR.value))
  except (UsageError, RunError) as error:
    sys.exit(f"error: {error}")


if __name__ == "__main__":
  CONFIG = config_flags.DEFINE_config_dict("config", get_config())
  WORKDIR = flags.DEFINE_string("workdir", "runs/cluttered", "Directory of the state and the plot.")
  app.run(main)
