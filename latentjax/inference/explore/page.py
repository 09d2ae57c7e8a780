"""Rendering of explore.html, one file that includes the generative model and works offline."""

import base64
import html
import json
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import numpy as np
from flax.serialization import to_state_dict
from flax.traverse_util import flatten_dict

from latentjax.runtime.errors import RunError

GENERATIVE_PATHS = {  # patterns of the paths of arrays, by model; parameters of inference alone are left out
  "conv_ladder": r"layers_\d+_\d+/(prior|z|block)/|down_out|map|pixels|offset",
  "draw": r"weights/(attention/write|decoder|initial/canvas|initial/decoder|prior)",
  "ladder_vae": "decoders|priors|pixels",
  "vae": "decoder|pixels",
}

EPSILON = 1e-5  # default of Flax's batch norm

LIKELIHOODS = ("bernoulli", "discretized_logistic", "logistic_mixture")  # implemented in likelihoods.js

LAYERS = {
  "title": "Layer by layer, from the top",
  "hint": " Each picture uses that layer and those above; layers below are at the mean of the prior.",
  "one": "layer",
  "several": "layers",
  "redraw_rest": "Redraw layers below",
}
STEPS = {
  "title": "Step by step",
  "hint": " Each picture is the canvas after that step; the frame is the write window.",
  "one": "step",
  "several": "steps",
  "redraw_rest": "Redraw later steps",
}
ONE_GROUP = {"title": "", "hint": "", "one": "group", "several": "groups", "redraw_rest": ""}
WORDS = {"conv_ladder": LAYERS, "draw": STEPS, "ladder_vae": LAYERS, "vae": ONE_GROUP}  # by model that the page can run


def generative_arrays(name: str, variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """Returns a model's generative arrays by "/"-separated path, as the page's JavaScript names them.

  Batch norm is folded into the dense layer before it.
  """
  paths = re.compile(GENERATIVE_PATHS[name])
  params, stats = (flatten_dict(to_state_dict(variables[kind]), sep="/") for kind in ("params", "batch_stats"))
  arrays = {path: np.asarray(array) for path, array in params.items() if paths.match(path)}
  norms = {path.removesuffix("/mean") for path in stats if path.endswith("/mean") and paths.match(path)}
  for norm in norms:
    gain = arrays.pop(f"{norm}/scale") / np.sqrt(np.asarray(stats[f"{norm}/var"]) + EPSILON)
    dense = norm.replace("BatchNorm", "Dense")
    arrays[f"{dense}/kernel"] = arrays[f"{dense}/kernel"] * gain
    arrays[f"{dense}/bias"] = arrays.pop(f"{norm}/bias") - np.asarray(stats[f"{norm}/mean"]) * gain
  return arrays


def render(
  title: str,
  facts: Sequence[str],
  fields: Mapping[str, Any],
  image_shape: tuple[int, int, int],
  latent_dims: Sequence[int],
  arrays: Mapping[str, np.ndarray],
  kl: Sequence[np.ndarray] | None,
) -> str:
  """Returns the page as HTML; raises RunError if an array has values beyond half precision.

  `facts` are about the run, and `fields` those of `config.model`. `arrays` are those of `generative_arrays`, optionally
  with "test/images" [M, H, W, C] in [0, 1] and "test/latents/l" [M, Z_l] of every group l. `kl` has L arrays [Z_l] in
  nats, or is None if unknown.
  """
  name, layout, start = fields["name"], {}, 0
  for path, array in arrays.items():
    layout[path] = {"start": start, "shape": array.shape}
    start += array.size
  names, captions = _group_names(name, len(latent_dims))
  payload = {
    "config": fields,
    "likelihood": fields.get("likelihood", "bernoulli"),
    "image_shape": image_shape,
    "latent_dims": latent_dims,
    "group_names": names,
    "captions": captions,
    "words": WORDS[name],
    "kl": kl and [np.round(np.asarray(group, float), 4).tolist() for group in kl],
    "arrays": layout,
    "size": start,
  }
  scripts = ["payload.js", "random.js", "linear.js", "likelihoods.js", f"{name}.js", "pictures.js", "page.js"]
  content = {
    "title": html.escape(title),
    "facts": html.escape(" · ".join(facts)),
    "groups": WORDS[name]["title"],
    "hint": WORDS[name]["hint"],
    "style": read_asset("page.css"),
    "scripts": "\n".join(map(read_asset, scripts)),
    "payload": json.dumps(payload, allow_nan=False).replace("<", "\\u003c"),
    "numbers": base64.b64encode(b"".join(map(to_float16, arrays, arrays.values()))).decode(),
  }
  return re.sub(r"@@(\w+)@@", lambda match: content[match[1]], read_asset("page.html"))


def _group_names(name: str, count: int) -> tuple[list[str], list[str]]:
  """Returns names of the groups in the model's order, and captions of their pictures in the order of generation."""
  if WORDS[name] is LAYERS:
    names = [f"z{index + 1}" for index in range(count)]
    return names, [f"{names[-1]} alone", *(f"{names[-1]} to {lower}" for lower in names[-2::-1])]
  names = [str(index + 1) for index in range(count)]
  return names, [f"After step {name} of {count}" for name in names]


def to_float16(path: str, array: np.ndarray) -> bytes:
  """Returns the array named `path` as little-endian float16 bytes; raises RunError if a value overflows."""
  with np.errstate(over="ignore"):
    rounded = np.asarray(array).astype("<f2")
  if not np.isfinite(rounded).all():
    raise RunError(f"{path} has values beyond half precision. This model cannot be shown in a page.")
  return rounded.tobytes()


def read_asset(name: str) -> str:
  return (files(__package__) / name).read_text(encoding="utf-8")
