"""One step of DRAW as written in the paper (Gregor et al. 2015, section 2), a pure function of its weights.

Pictures and latents use this step; training and evaluation use `fused.infer`, which regroups the same equations for
speed. Change the model here first: tests/models/test_fused.py compares both in all outputs and in all gradients.

Shapes: B batch, H W C image, Z latent, U hidden units.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct

from latentjax.models.distributions import Gaussian
from latentjax.models.draw.attention import Window
from latentjax.models.draw.heads import Heads, Weights
from latentjax.models.layers import linear
from latentjax.models.recurrent import LSTMState, lstm


@struct.dataclass
class State:
  """State between steps: the canvas [B, H, W, C] and both LSTMs; without B as weights, the learned initial state."""

  canvas: jax.Array
  encoder: LSTMState
  decoder: LSTMState


@struct.dataclass
class Inferred:
  """Results of an inference step; posterior and z are in units of the prior, which is N(0, I) there."""

  canvas: jax.Array  # [B, H, W, C] after the step
  posterior: Gaussian  # q(z | x, earlier z), [B, Z]
  noise: jax.Array  # [B, Z] standard normal
  z: jax.Array  # [B, Z] sample of the posterior with this noise
  read: Window | None  # None without attention
  write: Window | None


def infer_step(heads: Heads, mean: Callable, images: jax.Array, weights: Weights, state: State, noise: jax.Array):
  """Runs one step of inference and generation.

      x_hat = x - mean(c),  r = read(x, x_hat, h_dec),  h_enc' = LSTM(h_enc, [r, h_dec])
      q = N(W h_enc', exp(W h_enc')),  z ~ q,  h_dec' = LSTM(h_dec, z),  c' = c + write(h_dec')

  Not in the paper: with a learned prior p = N(m, s), (m, log s) = W h_dec, the posterior is relative to it,
  N(m + s mean_q, s std_q). So q and z are in units of the prior, and the decoder reads m + s z.

  Args:
    mean: canvas -> pixel means; the sigmoid for binary pixels.
    images: [B, H, W, C].
    weights: As created by `DRAW.init_weights`.
    noise: [B, Z] standard normal.

  Returns:
    The new state, and the `Inferred` results.
  """
  h_dec = state.decoder.hidden
  error = images - mean(state.canvas)
  reading, _ = heads.filterbanks(_head_outputs(weights, h_dec))
  glimpse = heads.read(reading, images, error)
  encoder = lstm(weights["encoder"], state.encoder, [glimpse, h_dec])
  posterior = Gaussian(*jnp.split(linear(weights["posterior"], encoder.hidden), 2, axis=-1))
  z = posterior.sample(noise)
  state, (canvas, write_window) = generate_step(heads, weights, state.replace(encoder=encoder), z)
  return state, Inferred(canvas, posterior, noise, z, reading and reading.window, write_window)


def generate_step(heads: Heads, weights: Weights, state: State, z: jax.Array):
  """The generative half of a step: h_dec' = LSTM(h_dec, z), c' = c + write(h_dec'), for z [B, Z] in units of the prior.

  Returns the new state, with the encoder's unchanged, and (canvas, write window).
  """
  prior = linear(weights["prior"], state.decoder.hidden) if "prior" in weights else None
  decoder = lstm(weights["decoder"], state.decoder, [from_prior_units(prior, z)])
  outputs = _head_outputs(weights, decoder.hidden)
  _, writing = heads.filterbanks(outputs)
  state = state.replace(canvas=state.canvas + heads.write(writing, outputs), decoder=decoder)
  return state, (state.canvas, writing and writing.window)


def from_prior_units(prior: jax.Array | None, z: jax.Array) -> jax.Array:
  """Returns m + s z, [B, Z], for a learned prior with m and log s concatenated to [B, 2 Z]; without one, z."""
  return z if prior is None else Gaussian(*jnp.split(prior, 2, axis=-1)).sample(z)


def _head_outputs(weights: Weights, h_dec: jax.Array) -> dict[str, jax.Array]:
  """Returns W(h_dec) of every head by name; unused ones cost nothing once compiled."""
  return {name: linear(head, h_dec) for name, head in weights["attention"].items()}


def initial_state(weights: Weights, batch: int) -> State:
  """Returns the learned state before the first step, broadcast over the batch."""
  return jax.tree.map(lambda x: jnp.broadcast_to(x, (batch, *x.shape)), weights["initial"])
