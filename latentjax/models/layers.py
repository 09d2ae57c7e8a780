"""Linear layers as pure functions, and residual networks. Shapes: B batch, I inputs, O outputs, U residual stream."""

import itertools
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

Layer = dict[str, jax.Array]  # kernel [I, O], bias [O]


def init_linear(key: jax.Array, kernel_init: Callable, inputs: int, outputs: int) -> Layer:
  """Creates a layer with zero bias; `kernel_init` maps (key, shape) to an array."""
  return layer_from_kernel(kernel_init(key, (inputs, outputs)))


def layer_from_kernel(kernel: jax.Array) -> Layer:
  """Creates a layer with zero bias."""
  return {"kernel": kernel, "bias": jnp.zeros(kernel.shape[-1])}


def linear(layer: Layer, x: jax.Array) -> jax.Array:
  """Returns x W + b, [B, O], for x [B, I]."""
  return x @ layer["kernel"] + layer["bias"][None]


def merge_layers(layers: Mapping[str, Layer]) -> Layer:
  """Returns one layer whose outputs are those of all layers, concatenated in order."""
  return {name: jnp.concatenate([layer[name] for layer in layers.values()], axis=-1) for name in ("kernel", "bias")}


def output_sizes(layers: Mapping[str, Layer]) -> dict[str, int]:
  """Returns O of each layer by name."""
  return {name: layer["bias"].size for name, layer in layers.items()}


def split_by_size(x: jax.Array, sizes: Mapping[str, int], axis: int = -1) -> dict[str, jax.Array]:
  """Splits x into named consecutive slices of these sizes: outputs of merged layers, or rows of a kernel."""
  ends = itertools.accumulate(sizes.values())
  return dict(zip(sizes, jnp.split(x, list(ends)[:-1], axis=axis), strict=True))


class ResidualBlock(nn.Module):
  """x + W_2 f(W_1 norm(x) + b_1) + b_2 for x [B, U], with layer norm, which needs no batch statistics."""

  width: int  # of the hidden layer
  activation: Callable[[jax.Array], jax.Array]  # f

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    hidden = self.activation(nn.Dense(self.width)(nn.LayerNorm()(x)))
    return x + nn.Dense(x.shape[-1])(hidden)


class ResidualMLP(nn.Module):
  """A dense layer to U, residual blocks, layer norm and activation: [B, I] -> [B, U]."""

  stream: int  # U
  widths: Sequence[int]  # hidden width of each block
  activation: Callable[[jax.Array], jax.Array]

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    x = nn.Dense(self.stream)(x)
    for width in self.widths:
      x = ResidualBlock(width, self.activation)(x)
    return self.activation(nn.LayerNorm()(x))
