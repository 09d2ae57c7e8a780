"""One step of DRAW as the paper has it (Gregor et al. 2015, section 2), a pure function of its weights.

Pictures and latents come from here; training and evaluation run `fast.infer`, the same equations regrouped. There are
two texts because the regrouped one hides what the model is, while a change to the model begins here and has here the
gradients by which the other is judged: tests/models/test_fast.py holds the two equal, in every output of every
step and in the gradient of all that goes in.

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
  """What one step hands to the next: the canvas [B, H, W, C] and both LSTMs; as weights without B."""

  canvas: jax.Array
  encoder: LSTMState
  decoder: LSTMState


@struct.dataclass
class Inferred:
  """All that a step makes.

  Attributes:
    canvas: [B, H, W, C] after it.
    posterior: q(z | x, earlier z) [B, Z]. z: [B, Z] drawn from it. Both in units of the prior, which is N(0, I) there.
    read, write: the two windows; None without attention.
  """

  canvas: jax.Array
  posterior: Gaussian
  z: jax.Array
  read: Window | None
  write: Window | None


def infer_step(heads: Heads, mean: Callable, images: jax.Array, weights: Weights, state: State, noise: jax.Array):
  """Inference and generation.

      x_hat = x - mean(c),  r = read(x, x_hat, h_dec),  h_enc' = LSTM(h_enc, [r, h_dec])
      q = N(W h_enc', exp(W h_enc')),  z ~ q,  h_dec' = LSTM(h_dec, z),  c' = c + write(h_dec')

  Not in the paper: with a learned prior p = N(m, s), (m, log s) = W h_dec, the posterior is relative to it,
  N(m + s mean_q, s std_q). So q and z stay as they are, in units of the prior, until the decoder reads m + s z.

  Args:
    mean: canvas -> pixel means; the sigmoid for binary pixels.
    images: [B, H, W, C]. noise: [B, Z] standard normal.

  Returns:
    The new state, and what was `Inferred`.
  """
  h_dec = state.decoder.hidden
  error = images - mean(state.canvas)
  reading, _ = heads.filterbanks(head_outputs(weights, h_dec))
  glimpse = heads.read(reading, images, error)
  encoder = lstm(weights["encoder"], state.encoder, [glimpse, h_dec])
  posterior = Gaussian(*jnp.split(linear(weights["posterior"], encoder.hidden), 2, axis=-1))
  z = posterior.sample(noise)
  state, (canvas, write_window) = generate_step(heads, weights, state.replace(encoder=encoder), z)
  return state, Inferred(canvas, posterior, z, reading and reading.window, write_window)


def generate_step(heads: Heads, weights: Weights, state: State, z: jax.Array):
  """The generative half: h_dec' = LSTM(h_dec, z), c' = c + write(h_dec').

  Args:
    z: [B, Z] in units of the prior.

  Returns:
    The new state (its encoder untouched), and (canvas, write window).
  """
  prior = linear(weights["prior"], state.decoder.hidden) if "prior" in weights else None
  decoder = lstm(weights["decoder"], state.decoder, [from_units_of(prior, z)])
  outputs = head_outputs(weights, decoder.hidden)
  _, writing = heads.filterbanks(outputs)
  state = state.replace(canvas=state.canvas + heads.write(writing, outputs), decoder=decoder)
  return state, (state.canvas, writing and writing.window)


def from_units_of(prior: jax.Array | None, z: jax.Array) -> jax.Array:
  """[B, Z] m + s z for z in units of a learned prior, whose m and log s are [B, 2 Z] side by side; else z itself."""
  return z if prior is None else Gaussian(*jnp.split(prior, 2, axis=-1)).sample(z)


def head_outputs(weights: Weights, h_dec: jax.Array) -> dict[str, jax.Array]:
  """W(h_dec) of every head, by name; those that a caller leaves unused cost nothing once compiled."""
  return {name: linear(head, h_dec) for name, head in weights["attention"].items()}


def initial_state(weights: Weights, batch: int) -> State:
  """The learned state before the first step, for every example."""
  return jax.tree.map(lambda x: jnp.broadcast_to(x, (batch, *x.shape)), weights["initial"])
