"""DRAW's linear layers grouped by what they multiply, so that each source takes one product.

A source is a glimpse, z, or a hidden state; a target is what its product adds to: the pre-activation of an LSTM, the
posterior, a head. Shapes: U hidden units.
"""

from collections.abc import Iterable

import jax
import jax.numpy as jnp

from latentjax.models.draw.heads import Heads, Weights
from latentjax.models.linear import Layer, from_kernel, merge, output_sizes, split
from latentjax.models.lstm import product_bias

Kernels = dict[str, jax.Array]
Targets = dict[str, dict[str, Layer]]  # linear layers by source, then by target
Layers = dict[str, Layer]  # one per source
Sizes = dict[str, dict[str, int]]  # outputs of each


def split_kernels(heads: Heads, weights: Weights) -> tuple[Kernels, Kernels]:
  """The kernels of encoder and decoder by what they multiply."""
  units, latents = weights["initial"].decoder.hidden.size, weights["posterior"]["bias"].size // 2
  rows = {"constant": heads.constant_size, "glimpse": heads.varying_size, "h_dec": units, "h_enc": units}
  to_encoder = split(weights["encoder"]["kernel"], rows, axis=0)
  return to_encoder, split(weights["decoder"]["kernel"], {"z": latents, "h_dec": units}, axis=0)


def group_by_source(weights: Weights, to_encoder: Kernels, to_decoder: Kernels, alignment: int) -> Targets:
  """Every linear layer of a step by what it multiplies and what its product adds to.

  Args:
    alignment: numbers at whose multiples rows, and the outputs for the LSTMs, begin.
  """
  of_decoder = dict(weights["attention"])
  if "prior" in weights:
    of_decoder["prior"] = weights["prior"]

  def padding(kernel: jax.Array, sizes: Iterable[int]) -> Layer:
    return from_kernel(jnp.zeros((len(kernel), -sum(sizes) % alignment)))

  return {
    "glimpse": {"encoder": {"kernel": to_encoder["glimpse"], "bias": product_bias(weights["encoder"])}},
    "z": {"decoder": {"kernel": to_decoder["z"], "bias": product_bias(weights["decoder"])}},
    "h_enc": {
      "posterior": weights["posterior"],
      "padding": padding(to_encoder["h_enc"], [weights["posterior"]["bias"].size]),
      "encoder": from_kernel(to_encoder["h_enc"]),
    },
    "h_dec": {
      **of_decoder,
      "padding": padding(to_decoder["h_dec"], output_sizes(of_decoder).values()),
      "encoder": from_kernel(to_encoder["h_dec"]),
      "decoder": from_kernel(to_decoder["h_dec"]),
    },
  }


def without_next_step(targets: Targets) -> Targets:
  """Without what hidden states tell a next step: its gates and its prior."""
  of_next = {"h_enc": ("encoder",), "h_dec": ("encoder", "decoder", "prior")}
  return {
    source: {target: layer for target, layer in layers.items() if target not in of_next.get(source, ())}
    for source, layers in targets.items()
  }


def merge_targets(targets: Targets) -> tuple[Layers, Sizes]:
  """One layer per source, and how its outputs divide into targets."""
  layers = {source: merge(each) for source, each in targets.items()}
  return layers, {source: output_sizes(each) for source, each in targets.items()}
