"""Rendering of explore.html, one file that includes the generative model and works offline."""

import base64
import html
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import numpy as np

from latentjax.inference.explore.generative import Arrays
from latentjax.runtime.errors import RunError

LIKELIHOODS = ("bernoulli", "discretized_logistic")  # implemented in likelihoods.js

WORDS = {  # by model that the page can run
  "draw": {"one": "step", "several": "steps", "redraw_rest": "Redraw later steps"},
  "ladder_vae": {"one": "layer", "several": "layers", "redraw_rest": "Redraw layers below"},
  "vae": {"one": "group", "several": "groups", "redraw_rest": ""},
}

HINTS = {
  "draw": " Each picture is the canvas after that step; the frame is the write window.",
  "ladder_vae": " Each picture uses that layer and those above; layers below are at the mean of the prior.",
  "vae": "",
}


def render(
  title: str,
  facts: Sequence[str],
  fields: Mapping[str, Any],
  image_shape: tuple[int, int, int],
  latent_dims: Sequence[int],
  arrays: Arrays,
  kl: Sequence[np.ndarray] | None,
) -> str:
  """Returns the page as HTML; raises RunError if an array has values beyond half precision.

  Args:
    title: Display name of the model.
    facts: Short statements about the run.
    fields: Fields of `config.model`, including its name.
    image_shape, latent_dims: See `TrainedModel`.
    arrays: Generative arrays of the model; optionally "test/images" [M, H, W, C] in [0, 1], and "test/latents/l"
      [M, Z_l] of every group l.
    kl: L arrays [Z_l] in nats, or None if unknown.
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
    "groups": {"draw": "Step by step", "ladder_vae": "Layer by layer, from the top", "vae": ""}[name],
    "hint": HINTS[name],
    "style": read_asset("page.css"),
    "scripts": "\n".join(map(read_asset, scripts)),
    "payload": json.dumps(payload).replace("<", "\\u003c"),
    "numbers": base64.b64encode(b"".join(map(to_float16, arrays, arrays.values()))).decode(),
  }
  page = read_asset("page.html")
  for placeholder, text in content.items():
    page = page.replace(f"@@{placeholder}@@", text)
  return page


def _group_names(name: str, count: int) -> tuple[list[str], list[str]]:
  """Returns names of the groups in the model's order, and captions of their pictures in the order of generation."""
  if name == "ladder_vae":
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
