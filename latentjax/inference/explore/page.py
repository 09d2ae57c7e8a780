"""explore.html: one file that opens offline, with the generative model inside."""

import base64
import html
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import numpy as np

from latentjax.inference.explore.generative import PARTS, Arrays
from latentjax.runtime.errors import RunError

HERE = files(__package__)

LIKELIHOODS = ("bernoulli", "discretized_logistic")  # whose means likelihoods.js has

SHARED = ("payload.js", "random.js", "linear.js", "likelihoods.js", "pictures.js", "page.js")

WORDS = {
  "draw": {"one": "step", "several": "steps", "redraw_rest": "Redraw later steps"},
  "ladder_vae": {"one": "layer", "several": "layers", "redraw_rest": "Redraw layers below"},
  "vae": {"one": "group", "several": "groups", "redraw_rest": ""},
}

HINTS = {
  "draw": " A step's picture is the canvas after it; the frame is the window through which it wrote.",
  "ladder_vae": " A layer's picture has that layer and those above as they are, and all below at the prior's mean.",
  "vae": "",
}


def supports(name: str) -> bool:
  """Whether there is a page for the model called `name`."""
  return name in PARTS


def render(
  title: str,
  facts: Sequence[str],
  fields: Mapping[str, Any],
  image_shape: tuple[int, int, int],
  latent_dims: Sequence[int],
  arrays: Arrays,
  kl: Sequence[np.ndarray] | None,
) -> str:
  """The page's HTML.

  Args:
    title: of the model. facts: about the run, in words.
    fields: of `config.model`, its name among them.
    image_shape: (H, W, C). latent_dims: Z_l of every group.
    arrays: those of the model, "test/images" [M, H, W, C] in [0, 1], and "test/latents/l" [M, Z_l] of every group; the
      latter two may be missing.
    kl: L arrays [Z_l] of nats, or None where it is not known.

  Raises:
    RunError: an array is no number of half precision.
  """
  name, places, start = fields["name"], {}, 0
  for path, array in arrays.items():
    places[path] = {"start": start, "shape": array.shape}
    start += array.size
  names, captions = names_of_groups(name, len(latent_dims))
  payload = {
    "config": fields,
    "likelihood": fields.get("likelihood", "bernoulli"),
    "image_shape": image_shape,
    "latent_dims": latent_dims,
    "group_names": names,
    "captions": captions,
    "words": WORDS[name],
    "kl": kl and [np.round(np.asarray(group, float), 4).tolist() for group in kl],
    "arrays": places,
    "size": start,
  }
  scripts = [*SHARED[:-2], f"{name}.js", *SHARED[-2:]]
  parts = {
    "title": html.escape(title),
    "facts": html.escape(" · ".join(facts)),
    "groups": {"draw": "Step by step", "ladder_vae": "Layer by layer, from the top", "vae": ""}[name],
    "hint": HINTS[name],
    "style": text("page.css"),
    "scripts": "\n".join(map(text, scripts)),
    "payload": json.dumps(payload).replace("<", "\\u003c"),
    "numbers": base64.b64encode(b"".join(map(halves, arrays, arrays.values()))).decode(),
  }
  page = text("page.html")
  for part, content in parts.items():
    page = page.replace(f"@@{part}@@", content)
  return page


def names_of_groups(name: str, count: int) -> tuple[list[str], list[str]]:
  """What each group is called, in the model's order; and what its picture shows, in the order of generation."""
  if name == "ladder_vae":
    names = [f"z{index + 1}" for index in range(count)]
    return names, [f"{names[-1]} alone", *(f"{names[-1]} to {lower}" for lower in names[-2::-1])]
  names = [str(index + 1) for index in range(count)]
  return names, [f"After step {name} of {count}" for name in names]


def halves(path: str, array: np.ndarray) -> bytes:
  """An array in half precision, little-endian."""
  with np.errstate(over="ignore"):
    rounded = np.asarray(array).astype("<f2")
  if not np.isfinite(rounded).all():
    raise RunError(f"{path} has numbers beyond half precision: the page cannot hold this model")
  return rounded.tobytes()


def text(name: str) -> str:
  return (HERE / name).read_text(encoding="utf-8")
