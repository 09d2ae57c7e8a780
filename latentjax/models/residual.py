"""Residual blocks: deep dense networks that train as fast as shallow ones."""

from collections.abc import Callable, Sequence

import jax
from flax import linen as nn


class ResidualBlock(nn.Module):
  """x + W_2 f(W_1 norm(x) + b_1) + b_2 with layer norm, which needs no statistics of a batch.

  Attributes:
    width: of the hidden layer; what goes in and comes out, x [B, U], keeps its own.
    activation: f.
  """

  width: int
  activation: Callable[[jax.Array], jax.Array]

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    hidden = self.activation(nn.Dense(self.width)(nn.LayerNorm()(x)))
    return x + nn.Dense(x.shape[-1])(hidden)


class ResidualMLP(nn.Module):
  """A dense layer to U, residual blocks, layer norm and the activation f: [B, ..] -> [B, U].

  Attributes:
    stream: U.
    widths: hidden width of every block.
    activation: f.
  """

  stream: int
  widths: Sequence[int]
  activation: Callable[[jax.Array], jax.Array]

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    x = nn.Dense(self.stream)(x)
    for width in self.widths:
      x = ResidualBlock(width, self.activation)(x)
    return self.activation(nn.LayerNorm()(x))
