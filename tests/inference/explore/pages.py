"""Tiny models with weights of ordinary size, their pages, and the results of the pages' scripts."""

import json
import shutil
import subprocess
from pathlib import Path

import jax
import numpy as np
import pytest

from latentjax import models
from latentjax.config.schema import field_keys
from latentjax.inference.explore import page
from latentjax.inference.explore.page import EPSILON, generative_arrays

DECODE = Path(__file__).with_name("decode.js")
COMMON = {"vae": {"hidden_dims": (7, 5, 6), "latent_dim": 3}}
COMMON["ladder_vae"] = {"hidden_dims": (7, 5, 5), "latent_dims": (4, 3, 2)}
COMMON["conv_ladder"] = {"levels": "1:1x4z2 2:2x3z1 6:1x2z2"}
COMMON["draw"] = {"hidden_dim": 6, "latent_dim": 3, "num_steps": 4, "read_size": 2, "write_size": 3}


def create(name: str, image_shape=(6, 5, 1), **fields):
  """Returns (model, fields, variables) with random biases, scales and statistics, so that each has an effect."""
  fields = COMMON[name] | fields
  model = models.MODELS[name](image_shape=image_shape, **fields)
  blank = np.zeros((1, *image_shape), np.float32)
  shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), blank, jax.random.key(1)))
  generator = np.random.default_rng(0)
  variables = jax.tree.map(lambda x: generator.normal(0, 0.6, x.shape).astype(np.float32), shapes)
  variables["batch_stats"] = jax.tree.map(lambda x: 0.2 + np.abs(x), variables.get("batch_stats", {}))
  every = {key: getattr(model, key) for key in field_keys(model)}  # as a config has them
  return model, {"name": name, **every}, variables


def half(variables):
  """Returns variables that generate with the page's rounded arrays; batch norm is folded as in the page."""
  whole = jax.tree.map(lambda x: x.astype(np.float16).astype(np.float32), variables)
  for mlp, norms in variables["batch_stats"].items():
    for norm, stats in norms.items():
      own, dense = variables["params"][mlp], norm.replace("BatchNorm", "Dense")
      gain = own[norm]["scale"] / np.sqrt(stats["var"] + EPSILON)
      kernel, bias = own[dense]["kernel"] * gain, own[norm]["bias"] - stats["mean"] * gain
      one = np.ones_like(gain)
      whole["params"][mlp][dense] = {"kernel": kernel.astype(np.float16).astype(np.float32)}
      whole["params"][mlp][norm] = {"scale": one, "bias": bias.astype(np.float16).astype(np.float32)}
      whole["batch_stats"][mlp][norm] = {"mean": 0 * one, "var": (1 - EPSILON) * one}
  return whole


def latent_dims(model) -> list[int]:
  if hasattr(model, "sizes"):
    return model.sizes
  return list(getattr(model, "latent_dims", None) or [model.latent_dim] * getattr(model, "num_steps", 1))


def draw_latents(model, count: int = 3) -> list[np.ndarray]:
  generator = np.random.default_rng(1)
  return [generator.normal(size=(count, size)).astype(np.float32) for size in latent_dims(model)]


def write_page(path: Path, model, fields, variables, extra=None, kl=None) -> Path:
  arrays = generative_arrays(fields["name"], variables) | (extra or {})
  path.write_text(page.render("A <model>", ["@@hint@@"], fields, model.image_shape, latent_dims(model), arrays, kl))
  return path


def decoded(path: Path, latents: list[np.ndarray]) -> list[list[dict]]:
  """Returns the stages of every example as computed by the page's script in Node."""
  examples = [[group[index].tolist() for group in latents] for index in range(len(latents[0]))]
  path.with_suffix(".json").write_text(json.dumps(examples))
  node = shutil.which("node") or pytest.skip("needs Node")
  done = subprocess.run([node, DECODE, path, path.with_suffix(".json")], capture_output=True, text=True, timeout=60)
  assert done.returncode == 0, done.stderr
  return json.loads(done.stdout)
