"""DRAW's linear layers grouped by what they multiply, so that each source takes one product.

A source is a glimpse, z, or a hidden state; a target is what its product adds to: the pre-activation of an LSTM, the
posterior, a head. Shapes: U hidden units.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from latentjax.models.distributions import Gaussian
from latentjax.models.draw.attention import Filterbanks
from latentjax.models.draw.heads import Heads, Weights
from latentjax.models.draw.plan import ATTENTION_IMPLS, ExecutionPlan
from latentjax.models.draw.reference import Inferred, State, from_units_of
from latentjax.models.layers import Layer, layer_from_kernel, linear, merge_layers, output_sizes, split_by_size
from latentjax.models.recurrent import lstm_cell, plain_step, product_bias, scan_layers

Kernels = dict[str, jax.Array]

Targets = dict[str, dict[str, Layer]]  # linear layers by source, then by target

Layers = dict[str, Layer]  # one per source

Sizes = dict[str, dict[str, int]]  # outputs of each


def split_kernels(heads: Heads, weights: Weights) -> tuple[Kernels, Kernels]:
  """The kernels of encoder and decoder by what they multiply."""
  units, latents = weights["initial"].decoder.hidden.size, weights["posterior"]["bias"].size // 2
  rows = {"constant": heads.constant_size, "glimpse": heads.varying_size, "h_dec": units, "h_enc": units}
  to_encoder = split_by_size(weights["encoder"]["kernel"], rows, axis=0)
  return to_encoder, split_by_size(weights["decoder"]["kernel"], {"z": latents, "h_dec": units}, axis=0)


def group_by_source(weights: Weights, to_encoder: Kernels, to_decoder: Kernels, alignment: int) -> Targets:
  """Every linear layer of a step by what it multiplies and what its product adds to.

  Args:
    alignment: numbers at whose multiples rows, and the outputs for the LSTMs, begin.
  """
  of_decoder = dict(weights["attention"])
  if "prior" in weights:
    of_decoder["prior"] = weights["prior"]

  def padding(kernel: jax.Array, sizes: Iterable[int]) -> Layer:
    return layer_from_kernel(jnp.zeros((len(kernel), -sum(sizes) % alignment)))

  return {
    "glimpse": {"encoder": {"kernel": to_encoder["glimpse"], "bias": product_bias(weights["encoder"])}},
    "z": {"decoder": {"kernel": to_decoder["z"], "bias": product_bias(weights["decoder"])}},
    "h_enc": {
      "posterior": weights["posterior"],
      "padding": padding(to_encoder["h_enc"], [weights["posterior"]["bias"].size]),
      "encoder": layer_from_kernel(to_encoder["h_enc"]),
    },
    "h_dec": {
      **of_decoder,
      "padding": padding(to_decoder["h_dec"], output_sizes(of_decoder).values()),
      "encoder": layer_from_kernel(to_encoder["h_dec"]),
      "decoder": layer_from_kernel(to_decoder["h_dec"]),
    },
  }


def drop_recurrent_outputs(targets: Targets) -> Targets:
  """Without what hidden states tell a next step: its gates and its prior."""
  of_next = {"h_enc": ("encoder",), "h_dec": ("encoder", "decoder", "prior")}
  return {
    source: {target: layer for target, layer in layers.items() if target not in of_next.get(source, ())}
    for source, layers in targets.items()
  }


def merge_targets(targets: Targets) -> tuple[Layers, Sizes]:
  """One layer per source, and how its outputs divide into targets."""
  layers = {source: merge_layers(each) for source, each in targets.items()}
  return layers, {source: output_sizes(each) for source, each in targets.items()}


@struct.dataclass
class Carry:
  """What one step hands to the next.

  Attributes:
    canvas: [B, H, W, C] or [B, H W C].
    encoder_cell, decoder_cell: [B, U].
    encoder_gates: [B, 4 U] the encoder's pre-activation but for the glimpse.
    decoder_gates: [B, 4 U] the decoder's but for z.
    reading: filters that read next, or None.
    prior: [B, 2 Z] mean and log standard deviation of the next z's learned prior, or None.
  """

  canvas: jax.Array
  encoder_cell: jax.Array
  decoder_cell: jax.Array
  encoder_gates: jax.Array
  decoder_gates: jax.Array
  reading: Filterbanks | None
  prior: jax.Array | None


def infer(
  heads: Heads,
  weights: Weights,
  images: jax.Array,
  noise: jax.Array,
  mean: Callable,
  output: Callable[[Inferred], Any],
  plan: ExecutionPlan,
) -> tuple[jax.Array, Any]:
  """All T steps of `step.infer_step`.

  Args:
    weights: as `DRAW.init_weights` makes them.
    images: [B, H, W, C]. noise: [T, B, Z] standard normal.
    mean: canvas -> pixel means, number by number.
    output: what to return of a step; what it leaves unused costs nothing once compiled.

  Returns:
    The last canvas [B, H, W, C], and the outputs of all steps, stacked along a leading axis T.
  """
  heads = heads.with_impl(ATTENTION_IMPLS[plan.attention_impl])
  canvas_shape = len(images), images[0].size  # arithmetic along a last axis of one channel is slow on a CPU
  advance = partial(fused_step, heads, mean, canvas_shape)
  to_encoder, to_decoder = split_kernels(heads, weights)
  targets = group_by_source(weights, to_encoder, to_decoder, plan.alignment)
  last_layers, last_sizes = merge_targets(drop_recurrent_outputs(targets))
  layers, sizes = merge_targets(targets)
  others = {
    "images": images,
    "constant": heads.constant_glimpse(images) @ to_encoder["constant"] if heads.constant_size else None,
    "encoder": {name: value for name, value in weights["encoder"].items() if name != "kernel"},
    "decoder": {name: value for name, value in weights["decoder"].items() if name != "kernel"},
  }

  def step(linear, others, carry, noise):
    inferred, made = advance(sizes, linear, others, carry, noise)
    return next_carry(*made), output(inferred)

  carry = initial_carry(heads, weights["initial"], layers, sizes, canvas_shape)
  in_loop = noise[:-1] if plan.peel_last else noise
  carry, outputs = scan_layers(step, layers, others, carry, in_loop, plan.unroll, plan.weight_gradients, plan.remat)
  if not plan.peel_last:
    return carry.canvas.reshape(images.shape), outputs

  def last_step(linear, others, carry, noise):
    inferred, _ = advance(last_sizes, linear, others, carry, noise)
    return inferred.canvas, output(inferred)

  canvas, last_output = plain_step(last_step, last_layers, others, carry, noise[-1])
  return canvas, jax.tree.map(lambda some, one: jnp.concatenate([some, one[None]]), outputs, last_output)


def fused_step(
  heads: Heads,
  mean: Callable,
  canvas_shape: tuple[int, ...],
  sizes: Sizes,
  linear: Callable,
  others: dict[str, Any],
  carry: Carry,
  noise: jax.Array,
) -> tuple[Inferred, tuple]:
  """One step: what it inferred, and what `next_carry` takes.

  Args:
    sizes: outputs of the linear layers by source and target.
    linear: see `scan`. others: see `infer`.
  """
  images = others["images"]
  error = images.reshape(canvas_shape) - mean(carry.canvas)
  glimpse = heads.error_glimpse(carry.reading, images, error.reshape(images.shape))
  gates = linear("glimpse", glimpse) + carry.encoder_gates
  if others["constant"] is not None:
    gates = gates + others["constant"]
  encoder = lstm_cell(others["encoder"], gates, carry.encoder_cell)
  of_encoder = split_by_size(linear("h_enc", encoder.hidden), sizes["h_enc"])
  posterior = Gaussian(*jnp.split(of_encoder["posterior"], 2, axis=-1))
  z = posterior.sample(noise)
  decoder = lstm_cell(
    others["decoder"], linear("z", from_units_of(carry.prior, z)) + carry.decoder_gates, carry.decoder_cell
  )
  of_decoder = split_by_size(linear("h_dec", decoder.hidden), sizes["h_dec"])
  reading, writing = heads.filterbanks(of_decoder)
  canvas = carry.canvas + heads.write(writing, of_decoder).reshape(canvas_shape)
  windows = carry.reading and carry.reading.window, writing and writing.window
  inferred = Inferred(canvas.reshape(images.shape), posterior, z, *windows)
  return inferred, (canvas, encoder.cell, decoder.cell, of_encoder, of_decoder, reading)


def next_carry(canvas, encoder_cell, decoder_cell, of_encoder, of_decoder, reading) -> Carry:
  """The carry, of what the products with both hidden states add to their targets, by name."""
  return Carry(
    canvas=canvas,
    encoder_cell=encoder_cell,
    decoder_cell=decoder_cell,
    encoder_gates=of_encoder["encoder"] + of_decoder["encoder"],
    decoder_gates=of_decoder["decoder"],
    reading=reading,
    prior=of_decoder.get("prior"),
  )


def initial_carry(heads: Heads, initial: State, layers: Layers, sizes: Sizes, canvas_shape: tuple[int, ...]) -> Carry:
  """Of the learned state before the first step, computed once for the whole batch."""
  of_encoder = split_by_size(linear(layers["h_enc"], initial.encoder.hidden[None]), sizes["h_enc"])
  of_decoder = split_by_size(linear(layers["h_dec"], initial.decoder.hidden[None]), sizes["h_dec"])
  reading, _ = heads.filterbanks(of_decoder)
  cells = initial.encoder.cell[None], initial.decoder.cell[None]
  carry = next_carry(initial.canvas.reshape(1, *canvas_shape[1:]), *cells, of_encoder, of_decoder, reading)
  return jax.tree.map(lambda x: jnp.broadcast_to(x, (canvas_shape[0], *x.shape[1:])), carry)
