"""Generative parameters of a model, by the names that the page's JavaScript uses.

Names are the "/"-separated paths of the model's parameters. Batch norm is folded into the dense layer before it.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from flax.serialization import to_state_dict
from flax.traverse_util import flatten_dict

Arrays = dict[str, np.ndarray]

GENERATIVE_PREFIXES = {  # by model; parameters of inference alone are left out
  "draw": (
    "weights/attention/write",
    "weights/decoder",
    "weights/initial/canvas",
    "weights/initial/decoder",
    "weights/prior",
  ),
  "ladder_vae": ("decoders", "priors", "pixels"),
  "vae": ("decoder", "pixels"),
}

EPSILON = 1e-5  # default of Flax's batch norm


def generative_arrays(name: str, variables: Mapping[str, Any]) -> Arrays:
  """Returns the generative arrays of a model, given its name and variables."""
  prefixes = GENERATIVE_PREFIXES[name]
  params, stats = (flatten_dict(to_state_dict(variables[kind]), sep="/") for kind in ("params", "batch_stats"))
  arrays = {path: np.asarray(array) for path, array in params.items() if path.startswith(prefixes)}
  norms = {path.removesuffix("/mean") for path in stats if path.endswith("/mean") and path.startswith(prefixes)}
  for norm in norms:
    gain = arrays.pop(f"{norm}/scale") / np.sqrt(np.asarray(stats[f"{norm}/var"]) + EPSILON)
    dense = norm.replace("BatchNorm", "Dense")
    arrays[f"{dense}/kernel"] = arrays[f"{dense}/kernel"] * gain
    arrays[f"{dense}/bias"] = arrays.pop(f"{norm}/bias") - np.asarray(stats[f"{norm}/mean"]) * gain
  return arrays
