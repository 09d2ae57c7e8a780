"""Linear layers as pure functions of their weights, alone or several as one product.

Shapes: B batch, I inputs, O outputs.
"""

import itertools
from collections.abc import Mapping

import jax
import jax.numpy as jnp

Layer = dict[str, jax.Array]  # kernel [I, O], bias [O]


def init_linear(key: jax.Array, kernel_init, inputs: int, outputs: int) -> Layer:
  """A layer with bias 0; `kernel_init` maps (key, shape) to an array."""
  return from_kernel(kernel_init(key, (inputs, outputs)))


def from_kernel(kernel: jax.Array) -> Layer:
  """A layer with bias 0."""
  return {"kernel": kernel, "bias": jnp.zeros(kernel.shape[-1])}


def linear(layer: Layer, x: jax.Array) -> jax.Array:
  """[B, O] x W + b of x [B, I]."""
  return x @ layer["kernel"] + layer["bias"][None]


def merge(layers: Mapping[str, Layer]) -> Layer:
  """One layer with the outputs of all, side by side in their order."""
  return {part: jnp.concatenate([layer[part] for layer in layers.values()], axis=-1) for part in ("kernel", "bias")}


def output_sizes(layers: Mapping[str, Layer]) -> dict[str, int]:
  """O of every layer by name."""
  return {name: layer["bias"].size for name, layer in layers.items()}


def split(x: jax.Array, sizes: Mapping[str, int], axis: int = -1) -> dict[str, jax.Array]:
  """Consecutive parts of x of these sizes, by name: the outputs of merged layers, or the rows of a kernel."""
  ends = itertools.accumulate(sizes.values())
  return dict(zip(sizes, jnp.split(x, list(ends)[:-1], axis=axis), strict=True))
