"""DRAW: a recurrent encoder and decoder that refine a canvas over T steps (Gregor et al. 2015, arXiv:1502.04623).

Shapes: B batch, H W C image, N glimpse, Z latent, U hidden units, T steps.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct

from latentjax.config import AT_LEAST_ONE, BOOLEAN, FINITE, POSITIVE, Rule, one_of
from latentjax.models import merged, recurrence
from latentjax.models.attention import Window
from latentjax.models.distributions import Gaussian, standard_normal_log_prob
from latentjax.models.heads import FilterbankAttention, NoAttention, Weights
from latentjax.models.likelihoods import Bernoulli, Likelihood
from latentjax.models.lstm import LSTMState, init_lstm, lstm
from latentjax.models.pictures import Animation, Grid, Picture
from latentjax.models.recurrence import dense, scan
from latentjax.models.terms import Terms

TITLES = {"none": "DRAW, no attention", "filterbank": "DRAW, filterbank attention"}
DRAWN = 10  # images side by side in a picture
STRIP = 16  # steps of a drawing side by side, at most


@struct.dataclass
class State:
  """What one step hands to the next: the canvas [B, H, W, C] of logits and both LSTMs."""

  canvas: jax.Array
  encoder: LSTMState
  decoder: LSTMState


@struct.dataclass
class Drawing:
  """A drawing step by step, for pictures.

  Attributes:
    canvases: [T, B, H, W, C] pixel means after each step.
    read, write: windows with fields [T, B]; None without attention, and `read` None when nothing was read.
  """

  canvases: jax.Array
  read: Window | None
  write: Window | None


class DRAW(nn.Module):
  """Hierarchy in time: T latents, each conditioned on what the canvas still lacks.

  Attributes:
    image_shape: (H, W, C).
    attention: "none" or "filterbank".
    num_steps: T. hidden_dim: U of both LSTMs. latent_dim: Z of every step.
    read_size, write_size: N of the two windows (filterbank only).
    layer_norm: normalise the LSTMs.
    init_scale: standard deviation of the initial weights.
    variance_bias, stride_bias: initial log variance [log pixels^2] and log stride~ of both windows; 0 and 0 are
      unit variance and a grid over the whole image.
    unroll, weight_gradients, remat: how steps are scanned for a gradient, see `recurrence.Options`; they change speed
      and memory and nothing else.
  """

  RULES: ClassVar[Mapping[str, Rule]] = {
    "attention": one_of(*TITLES),
    "num_steps": AT_LEAST_ONE,
    "hidden_dim": AT_LEAST_ONE,
    "latent_dim": AT_LEAST_ONE,
    "read_size": AT_LEAST_ONE,
    "write_size": AT_LEAST_ONE,
    "layer_norm": BOOLEAN,
    "init_scale": POSITIVE,
    "variance_bias": FINITE,
    "stride_bias": FINITE,
    "unroll": ("0 or more", lambda value: value >= 0),
    "weight_gradients": one_of("auto", "step", "after"),
    "remat": one_of("none", "step", "sqrt"),
  }
  SPEED: ClassVar[tuple[str, ...]] = ("unroll", "weight_gradients", "remat")
  likelihood: ClassVar[Likelihood] = Bernoulli()

  image_shape: tuple[int, int, int]
  attention: str = "filterbank"
  num_steps: int = 10
  hidden_dim: int = 256
  latent_dim: int = 32
  read_size: int = 12
  write_size: int = 12
  layer_norm: bool = False
  init_scale: float = 0.05
  variance_bias: float = 0.0
  stride_bias: float = 0.0
  unroll: int = 0
  weight_gradients: str = "auto"
  remat: str = "none"

  @staticmethod
  def conflict(fields: Mapping[str, Any], image_shape: tuple[int, int, int] | None) -> str | None:
    if fields["remat"] != "none" and fields["weight_gradients"] == "after":
      return "model.weight_gradients = 'after' keeps what model.remat would compute again: drop one of the two"
    if image_shape is not None and fields["attention"] == "filterbank":
      height, width, _ = image_shape
      for key in ("read_size", "write_size"):
        if fields[key] > min(height, width):
          return f"model.{key} = {fields[key]} is larger than the image ({height} x {width} pixels)"
    return None

  @staticmethod
  def title(fields: Mapping[str, Any]) -> str:
    return TITLES.get(fields.get("attention"), "DRAW")

  def setup(self):
    self.weights = self.param("weights", self.init_weights)

  def make_attention(self, by_products: bool = False) -> NoAttention | FilterbankAttention:
    if self.attention == "none":
      return NoAttention(self.image_shape)
    sizes, biases = (self.read_size, self.write_size), (self.variance_bias, self.stride_bias)
    return FilterbankAttention(self.image_shape, *sizes, *biases, by_products)

  def init_weights(self, key: jax.Array) -> Weights:
    """All weights of the recurrence as one pytree, initial states among them."""
    units, latents, attend = self.hidden_dim, self.latent_dim, self.make_attention()
    attention_key, encoder_key, posterior_key, decoder_key = jax.random.split(key, 4)
    kernel_init = nn.initializers.normal(self.init_scale)

    def init_dense(key, inputs, outputs):
      return {"kernel": kernel_init(key, (inputs, outputs)), "bias": jnp.zeros(outputs)}

    initial_lstm = LSTMState(hidden=jnp.zeros(units), cell=jnp.zeros(units))
    return {
      "attention": attend.init(attention_key, init_dense, units),
      "encoder": init_lstm(encoder_key, kernel_init, attend.num_read + units, units, self.layer_norm),
      "posterior": init_dense(posterior_key, units, 2 * latents),
      "decoder": init_lstm(decoder_key, kernel_init, latents, units, self.layer_norm),
      "initial": State(jnp.zeros(self.image_shape), initial_lstm, initial_lstm),
    }

  def __call__(self, images: jax.Array, key: jax.Array) -> Terms:
    """Terms of the bound for images [B, H, W, C] in [0, 1], L = T."""
    noise = jax.random.normal(key, (self.num_steps, len(images), self.latent_dim))
    how = self.scan_options(jax.default_backend())
    attend = self.make_attention(by_products=not how.gradients_after)
    # `infer_step`, T times.
    canvas, terms = merged.infer(attend, self.weights, images, noise, latent_terms, how)
    kl, log_pz, log_qz = (term.T for term in terms)  # [B, T]
    return Terms(self.likelihood.mean(canvas), self.likelihood.log_prob(canvas, images), kl, log_pz, log_qz)

  def scan_options(self, backend: str) -> recurrence.Options:
    """How the steps are scanned on a backend."""
    return recurrence.options(self.unroll, self.weight_gradients, self.remat, self.num_steps, backend)

  def sample(self, key: jax.Array, num_samples: int) -> jax.Array:
    """[num_samples, H, W, C] pixel means for latents drawn from the prior, a new one at every step."""
    return self.dream(key, num_samples).canvases[-1]

  def dream(self, key: jax.Array, num_samples: int) -> Drawing:
    """A drawing from the prior, every canvas and write window of it."""
    return self.draw_latents(jax.random.normal(key, (self.num_steps, num_samples, self.latent_dim)))

  def draw_latents(self, z: jax.Array) -> Drawing:
    """What latents z [T, B, Z] draw."""
    step = partial(generate_step, self.make_attention())
    _, (canvases, write) = scan(step, self.weights, self.initial_state(z.shape[1]), z)
    return Drawing(self.likelihood.mean(canvases), None, write)

  def encode(self, images: jax.Array) -> tuple[jax.Array, ...]:
    """T arrays [B, Z]: the posterior mean of every step, given the means of the steps before it."""
    noise = jnp.zeros((self.num_steps, len(images), self.latent_dim))
    step = partial(infer_step, self.make_attention(), images)
    _, (_, z, _) = scan(step, self.weights, self.initial_state(len(images)), noise)
    return tuple(z)

  def decode(self, latents: Sequence[jax.Array]) -> jax.Array:
    """[B, H, W, C] pixel means for latents as `encode` gives them."""
    return self.draw_latents(jnp.stack(latents)).canvases[-1]

  def draw(self, images: jax.Array, key: jax.Array) -> Drawing:
    """How images [B, H, W, C] are drawn again: every canvas with the windows that read and wrote."""
    noise = jax.random.normal(key, (self.num_steps, len(images), self.latent_dim))
    infer = partial(infer_step, self.make_attention(), images)

    def step(weights, state, noise):
      state, (_, _, windows) = infer(weights, state, noise)
      return state, (state.canvas, *windows)

    _, (canvases, read, write) = scan(step, self.weights, self.initial_state(len(images)), noise)
    return Drawing(self.likelihood.mean(canvases), read, write)

  def pictures(self, key: jax.Array, images: jax.Array | None) -> dict[str, Picture]:
    """drawing.gif, images drawn again; dream.gif and dream.png, drawings from the prior, the latter as a strip."""
    drawing_key, dream_key = jax.random.split(key)
    dream = self.dream(dream_key, DRAWN)
    shown = np.unique(np.linspace(0, self.num_steps - 1, min(self.num_steps, STRIP)).round().astype(int))
    sizes = {"read_size": self.read_size, "write_size": self.write_size}
    pictures = {
      "dream.gif": Animation(dream.canvases, None, None, dream.write, **sizes),
      "dream.png": Grid(dream.canvases[shown].swapaxes(0, 1)),
    }
    if images is not None:
      images = images[:DRAWN]
      drawing = self.draw(images, drawing_key)
      pictures["drawing.gif"] = Animation(drawing.canvases, images, drawing.read, drawing.write, **sizes)
    return pictures

  def initial_state(self, batch: int) -> State:
    """The learned state before the first step, for every example."""
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (batch, *x.shape)), self.weights["initial"])


def infer_step(attend, images: jax.Array, weights: Weights, state: State, noise: jax.Array):
  """One step of inference and generation (Gregor et al. 2015, section 2).

      x_hat = x - sigmoid(c),  r = read(x, x_hat, h_dec),  h_enc' = LSTM(h_enc, [r, h_dec])
      q = N(W h_enc', exp(W h_enc')),  z ~ q,  h_dec' = LSTM(h_dec, z),  c' = c + write(h_dec')

  Args:
    attend: NoAttention or FilterbankAttention.
    images: [B, H, W, C]. noise: [B, Z] standard normal.

  Returns:
    The new state, and (q, z, (read window, write window)).
  """
  h_dec = state.decoder.hidden
  error = images - jax.nn.sigmoid(state.canvas)
  lens, _ = attend.aim(head_numbers(weights, h_dec))
  glimpse = attend.read(lens, images, error)
  encoder = lstm(weights["encoder"], state.encoder, [*attend.fixed(images), glimpse, h_dec])
  q = Gaussian(*jnp.split(dense(weights["posterior"], encoder.hidden), 2, axis=-1))
  z = q.sample(noise)
  state, (_, write_window) = generate_step(attend, weights, state.replace(encoder=encoder), z)
  return state, (q, z, (lens and lens.where, write_window))


def latent_terms(q: Gaussian, z: jax.Array) -> tuple[jax.Array, ...]:
  """KL(q || N(0, 1)), log p(z) and log q(z) of a step, each [B]; so no step has to keep q and z themselves."""
  return q.kl_to_standard(), standard_normal_log_prob(z), q.log_prob(z)


def generate_step(attend, weights: Weights, state: State, z: jax.Array):
  """The generative half of a step: h_dec' = LSTM(h_dec, z), c' = c + write(h_dec').

  Returns:
    The new state (its encoder untouched), and (canvas, write window).
  """
  decoder = lstm(weights["decoder"], state.decoder, [z])
  numbers = head_numbers(weights, decoder.hidden)
  _, lens = attend.aim(numbers)
  state = state.replace(canvas=state.canvas + attend.write(lens, numbers), decoder=decoder)
  return state, (state.canvas, lens and lens.where)


def head_numbers(weights: Weights, h_dec: jax.Array) -> Weights:
  """W(h_dec) of every head, by name; those that a caller leaves unused cost nothing once compiled."""
  return {name: dense(head, h_dec) for name, head in weights["attention"].items()}
