"""Eight virtual devices of a CPU compute the numbers of one, each an eighth of the work."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Plain gradient descent: Adam makes whole steps of gradients that are only rounding errors, such as those of a bias
# before batch norm, and these differ on eight devices.
COMPARE = """
import importlib, json, sys
import jax, jax.numpy as jnp, numpy as np, optax
from latentjax import models
from latentjax.data.feed import create_feed
from latentjax.inference.functions import create_inference_fns
from latentjax.cli.benchmark import create_workload
from latentjax.runtime.distributed import create_mesh
from latentjax.training import step
from latentjax.training.compile import create_train_fns

step.create_optimizer = lambda config, schedule, stacked: optax.sgd(1e-2)
images = np.random.default_rng(0).integers(0, 256, (40, 7, 6, 1), np.uint8)
mesh = create_mesh()

def create(config, mesh):
  return create_train_fns(config, models.create_model(config.model, images.shape[1:]), len(images), mesh)

def train(config, initial, mesh, placement="device"):
  steps, key = create(config, mesh), jax.random.key(2)
  chunk = next(create_feed(placement, images, 16, 2, mesh).chunks(steps.order(jax.random.key(1), 0), 0))
  program = steps.train.lower(initial, chunk.images, chunk.order, key, chunk.count).compile()
  state, metrics = jax.device_get(program(initial, chunk.images, chunk.order, key))
  text = program.as_text()
  cost = {
    "flops": program.cost_analysis()["flops"],
    "gathers": sum(text.count(f" {name}(") for name in ("all-gather", "all-to-all", "collective-permute")),
  }
  change = jax.tree.map(np.subtract, state.params, initial.params)
  return {"change": change, "stats": state.stats, "loss": metrics.loss}, cost

def apart(one, other):
  pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
  return max((float(np.abs(a - b).max() / np.abs(a).max()) for a, b in pairs), default=0)

for name, changes in json.loads(sys.argv[1]).items():
  config = importlib.import_module(f"configs.{name}").get_config()
  config.update_from_flattened_dict({"train.batch_size": 16, **changes})
  initial = jax.device_get(create(config, None).init(jax.random.key(0)))
  (alone, cost), (together, shared) = train(config, initial, None), train(config, initial, mesh)
  print(json.dumps({
    "apart": {name: apart(alone[name], together[name]) for name in alone},
    "flops": shared["flops"] / cost["flops"],
    "gathers": shared["gathers"],
  }))
uneven = next(create_feed("host", images, 12, 2, mesh).chunks(jnp.arange(40), 0)).images
print(uneven.shape == (2, 12, 7, 6, 1) and uneven.is_fully_replicated)
fed, cost = train(config, initial, mesh, "host")
print(cost["gathers"] == 0 and all(jax.tree.leaves(jax.tree.map(np.array_equal, together, fed))))

model = models.create_model(config.model, images.shape[1:])
log_weights = create_inference_fns(config, model, mesh).log_weights
costs = [
  log_weights.lower(initial.variables, images[:count], jax.random.key(3), 3).compile().cost_analysis()
  for count in (8, 1)
]
print(costs[0]["flops"] / costs[1]["flops"])

config.benchmark.phase = "eval"
workload = create_workload(config, model, images, 16, mesh)
workload.call(2)
print(workload.devices * workload.compiled.cost_analysis()["flops"] / workload.flops)
"""
MODELS = {
  "conv_ladder": {"model.levels": "1:1x30z3 7:1x20z2"},
  "ladder_vae": {"model.hidden_dims": (40, 20), "model.latent_dims": (4, 3)},
  "draw": {
    "model.attention": "none",
    "model.num_steps": 2,
    "model.hidden_dim": 40,
    "model.latent_dim": 3,
    "train.kl_warmup_epochs": 0.0,  # at first, without the KL, gradients are too small to compare
  },
  "vae": {"model.hidden_dims": (40,), "model.latent_dim": 3},
}


def on_eight_devices(*command: str) -> subprocess.CompletedProcess:
  environment = os.environ | {"JAX_NUM_CPU_DEVICES": "8", "JAX_PLATFORMS": "cpu"}
  command = [sys.executable, *command]
  return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def test_indivisible_batch_is_one_line(tiny_cache, tmp_path):
  flags = ["--config=configs/vae.py", "--config.data.name=tiny", "--config.train.batch_size=12"]
  done = on_eight_devices("main.py", *flags, f"--workdir={tmp_path / 'new'}")
  assert (done.returncode, done.stdout) == (2, ""), done.stderr
  assert done.stderr.startswith("error: train.batch_size = 12 cannot be divided among 8 devices")
  assert len(done.stderr.splitlines()) == 1
  assert list(tmp_path.iterdir()) == []


def test_eight_devices_match_one():
  """Including noise, binarization and batch norm; only gradients are exchanged, and the optimizer runs everywhere.

  Both placements are equal bit for bit. Eight images cost a device no more than one image.
  """
  done = on_eight_devices("-c", COMPARE, json.dumps(MODELS))
  assert done.returncode == 0, done.stderr
  found = [json.loads(line.lower()) for line in done.stdout.splitlines()]
  *trained, uneven_is_whole, fed_is_the_same, evaluation, timed = found
  for found in trained:
    assert max(found["apart"].values()) < 1e-4, trained
    assert found["flops"] < 0.4
    assert found["gathers"] == 0
  assert uneven_is_whole
  assert fed_is_the_same
  assert evaluation == pytest.approx(1, abs=0.02)
  assert 1 <= timed < 2  # matrix products are most of the work, not all
