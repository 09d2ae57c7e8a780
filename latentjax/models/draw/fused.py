"""DRAW's steps with linear layers merged by source, so that each source needs one matrix product per step.

A source is a glimpse, z, or a hidden state. A target is what a product adds to: the pre-activation of an LSTM, the
posterior, or a head. Equal to `reference.py` in values and gradients.

Shapes: B batch, H W C image, Z latent, U hidden units, T steps.
"""

import dataclasses
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
from flax import struct

from latentjax.models.distributions import Gaussian
from latentjax.models.draw.attention import Filterbanks
from latentjax.models.draw.heads import FilterbankAttention, Heads, Weights
from latentjax.models.draw.plan import ATTENTION_IMPLS, ExecutionPlan
from latentjax.models.draw.reference import Inferred, State, from_prior_units
from latentjax.models.layers import Layer, layer_from_kernel, linear, merge_layers, output_sizes, split_by_size
from latentjax.models.recurrent import Layers, lstm_cell, plain_step, product_bias, scan_layers

Targets = dict[str, Layers]  # linear layers by source, then by target
Sizes = dict[str, dict[str, int]]  # outputs by source and target


@struct.dataclass
class Carry:
  """State between steps."""

  canvas: jax.Array  # [B, H W C]; [B, H, W, C] of images would be slow with one channel on a CPU
  encoder_cell: jax.Array  # [B, U]
  decoder_cell: jax.Array
  encoder_gates: jax.Array  # [B, 4 U] pre-activation of the encoder without the glimpse
  decoder_gates: jax.Array  # [B, 4 U] pre-activation of the decoder without z
  reading: Filterbanks | None  # filters that read next; None without attention
  prior: jax.Array | None  # [B, 2 Z] mean and log standard deviation of the next z's learned prior, or None


def infer(
  heads: Heads,
  weights: Weights,
  images: jax.Array,
  noise: jax.Array,
  mean: Callable,
  output: Callable[[Inferred], Any],
  plan: ExecutionPlan,
) -> tuple[jax.Array, Any]:
  """Runs all T steps of `reference.infer_step`.

  Args:
    heads: Reading and writing; their attention implementation is replaced by that of the plan.
    weights: As created by `DRAW.init_weights`.
    images: [B, H, W, C].
    noise: [T, B, Z] standard normal.
    mean: canvas -> pixel means, elementwise.
    output: Selects what to return of a step; unused results cost nothing once compiled.
    plan: Implementation choices.

  Returns:
    The last canvas [B, H, W, C], and the outputs of all steps, stacked along a leading axis T.
  """
  chex.assert_shape(images, (None, *heads.image_shape))
  chex.assert_shape(noise, (None, len(images), None))
  if isinstance(heads, FilterbankAttention):
    heads = dataclasses.replace(heads, impl=ATTENTION_IMPLS[plan.attention_impl])
  canvas_shape = len(images), images[0].size
  advance = partial(_fused_step, heads, mean, canvas_shape)
  constant_kernel, targets = _group_by_source(heads, weights, plan.alignment)
  last_layers, last_sizes = _merge_targets(_drop_recurrent_outputs(targets))
  layers, sizes = _merge_targets(targets)
  others = {
    "images": images,
    "constant": heads.constant_glimpse(images) @ constant_kernel if constant_kernel.size else None,
    "encoder": {name: value for name, value in weights["encoder"].items() if name != "kernel"},
    "decoder": {name: value for name, value in weights["decoder"].items() if name != "kernel"},
  }

  def step(linear, others, carry, noise):
    inferred, results = advance(sizes, linear, others, carry, noise)
    return _next_carry(*results), output(inferred)

  carry = _initial_carry(heads, weights["initial"], layers, sizes, canvas_shape)
  in_loop = noise[:-1] if plan.peel_last else noise
  carry, outputs = scan_layers(step, layers, others, carry, in_loop, plan.unroll, plan.weight_gradients, plan.remat)
  if not plan.peel_last:
    return carry.canvas.reshape(images.shape), outputs

  def last_step(linear, others, carry, noise):
    inferred, _ = advance(last_sizes, linear, others, carry, noise)
    return inferred.canvas, output(inferred)

  canvas, last_output = plain_step(last_step, last_layers, others, carry, noise[-1])
  return canvas, jax.tree.map(lambda stacked, last: jnp.concatenate([stacked, last[None]]), outputs, last_output)


def _fused_step(
  heads: Heads, mean: Callable, canvas_shape, sizes: Sizes, linear: Callable, others: dict, carry: Carry, noise
) -> tuple[Inferred, tuple]:
  """Returns the results of a step, and the arguments of `_next_carry`."""
  images = others["images"]
  error = images.reshape(canvas_shape) - mean(carry.canvas)
  glimpse = heads.error_glimpse(carry.reading, images, error.reshape(images.shape))
  gates = linear("glimpse", glimpse) + carry.encoder_gates
  if others["constant"] is not None:
    gates = gates + others["constant"]
  encoder = lstm_cell(others["encoder"], gates, carry.encoder_cell)
  from_encoder = split_by_size(linear("h_enc", encoder.hidden), sizes["h_enc"])
  posterior = Gaussian(*jnp.split(from_encoder["posterior"], 2, axis=-1))
  z = posterior.sample(noise)
  gates = linear("z", from_prior_units(carry.prior, z)) + carry.decoder_gates
  decoder = lstm_cell(others["decoder"], gates, carry.decoder_cell)
  from_decoder = split_by_size(linear("h_dec", decoder.hidden), sizes["h_dec"])
  reading, writing = heads.filterbanks(from_decoder)
  canvas = carry.canvas + heads.write(writing, from_decoder).reshape(canvas_shape)
  windows = carry.reading and carry.reading.window, writing and writing.window
  inferred = Inferred(canvas.reshape(images.shape), posterior, noise, z, *windows)
  return inferred, (canvas, encoder.cell, decoder.cell, from_encoder, from_decoder, reading)


def _next_carry(canvas, encoder_cell, decoder_cell, from_encoder, from_decoder, reading) -> Carry:
  """Returns the carry, given the products with both hidden states by target."""
  gates = from_encoder["encoder"] + from_decoder["encoder"], from_decoder["decoder"]
  return Carry(canvas, encoder_cell, decoder_cell, *gates, reading, from_decoder.get("prior"))


def _initial_carry(heads: Heads, initial: State, layers: Layers, sizes: Sizes, canvas_shape: tuple[int, ...]) -> Carry:
  """Returns the carry of the learned initial state, computed once for the whole batch."""
  from_encoder = split_by_size(linear(layers["h_enc"], initial.encoder.hidden[None]), sizes["h_enc"])
  from_decoder = split_by_size(linear(layers["h_dec"], initial.decoder.hidden[None]), sizes["h_dec"])
  reading, _ = heads.filterbanks(from_decoder)
  cells = initial.encoder.cell[None], initial.decoder.cell[None]
  carry = _next_carry(initial.canvas.reshape(1, *canvas_shape[1:]), *cells, from_encoder, from_decoder, reading)
  return jax.tree.map(lambda x: jnp.broadcast_to(x, (canvas_shape[0], *x.shape[1:])), carry)


def _group_by_source(heads: Heads, weights: Weights, alignment: int) -> tuple[jax.Array, Targets]:
  """Returns the kernel of the constant part of glimpses, and all other linear layers of a step by source and target.

  `alignment` pads the outputs before those for LSTMs.
  """
  units, latents = weights["initial"].decoder.hidden.size, weights["posterior"]["bias"].size // 2
  constant, varying = heads.glimpse_sizes
  rows = {"constant": constant, "glimpse": varying, "h_dec": units, "h_enc": units}
  encoder_kernels = split_by_size(weights["encoder"]["kernel"], rows, axis=0)
  decoder_kernels = split_by_size(weights["decoder"]["kernel"], {"z": latents, "h_dec": units}, axis=0)
  small_targets = dict(weights["attention"]) | ({"prior": weights["prior"]} if "prior" in weights else {})

  def padding(kernel: jax.Array, sizes: Iterable[int]) -> Layer:
    return layer_from_kernel(jnp.zeros((len(kernel), -sum(sizes) % alignment)))

  targets = {
    "glimpse": {"encoder": {"kernel": encoder_kernels["glimpse"], "bias": product_bias(weights["encoder"])}},
    "z": {"decoder": {"kernel": decoder_kernels["z"], "bias": product_bias(weights["decoder"])}},
    "h_enc": {
      "posterior": weights["posterior"],
      "padding": padding(encoder_kernels["h_enc"], [weights["posterior"]["bias"].size]),
      "encoder": layer_from_kernel(encoder_kernels["h_enc"]),
    },
    "h_dec": {
      **small_targets,
      "padding": padding(decoder_kernels["h_dec"], output_sizes(small_targets).values()),
      "encoder": layer_from_kernel(encoder_kernels["h_dec"]),
      "decoder": layer_from_kernel(decoder_kernels["h_dec"]),
    },
  }
  return encoder_kernels["constant"], targets


def _drop_recurrent_outputs(targets: Targets) -> Targets:
  """Drops the targets that only a next step uses: its gates and its prior."""
  dropped = {"h_enc": ("encoder",), "h_dec": ("encoder", "decoder", "prior")}
  return {
    source: {target: layer for target, layer in layers.items() if target not in dropped.get(source, ())}
    for source, layers in targets.items()
  }


def _merge_targets(targets: Targets) -> tuple[Layers, Sizes]:
  """Returns one layer per source, and the sizes of its outputs by target."""
  layers = {source: merge_layers(by_target) for source, by_target in targets.items()}
  return layers, {source: output_sizes(by_target) for source, by_target in targets.items()}
