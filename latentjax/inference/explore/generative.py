"""The arrays that a model generates with, by the names that the page's JavaScript knows them by.

They are the names of the model's parameters, "/" between their parts. Batch norm, whose statistics have settled,
becomes part of the dense layer before it.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from flax.serialization import to_state_dict
from flax.traverse_util import flatten_dict

Arrays = dict[str, np.ndarray]


PARTS = {  # how the names begin of what generates, and is not inference's alone
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

EPSILON = 1e-5  # of Flax's batch norm


def generative_arrays(name: str, variables: Mapping[str, Any]) -> Arrays:
  """The arrays of the model called `name`, from its variables."""
  params, stats = (flatten_dict(to_state_dict(variables[kind]), sep="/") for kind in ("params", "batch_stats"))
  arrays = {path: np.asarray(array) for path, array in params.items() if path.startswith(PARTS[name])}
  norms = {path.removesuffix("/mean") for path in stats if path.endswith("/mean") and path.startswith(PARTS[name])}
  for norm in norms:
    gain = arrays.pop(f"{norm}/scale") / np.sqrt(np.asarray(stats[f"{norm}/var"]) + EPSILON)
    dense = norm.replace("BatchNorm", "Dense")
    arrays[f"{dense}/kernel"] = arrays[f"{dense}/kernel"] * gain
    arrays[f"{dense}/bias"] = arrays.pop(f"{norm}/bias") - np.asarray(stats[f"{norm}/mean"]) * gain
  return arrays
