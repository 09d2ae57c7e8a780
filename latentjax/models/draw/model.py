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

from latentjax.config.schema import AT_LEAST_ONE, BOOLEAN, FINITE, NON_NEGATIVE_INTEGER, POSITIVE, Constraint, one_of
from latentjax.models.base import DrawingAnimation, ImageGrid, Picture
from latentjax.models.distributions import Gaussian, standard_normal_log_prob
from latentjax.models.draw import fused
from latentjax.models.draw.attention import Window
from latentjax.models.draw.heads import FilterbankAttention, Heads, NoAttention, Weights
from latentjax.models.draw.plan import CHOICES, ExecutionPlan, choose_plan
from latentjax.models.draw.reference import Inferred, State, generate_step, infer_step, initial_state
from latentjax.models.elbo import ELBOTerms
from latentjax.models.layers import init_linear, layer_from_kernel
from latentjax.models.likelihoods import LIKELIHOODS, Likelihood
from latentjax.models.recurrent import LSTMState, init_lstm

DISPLAY_NAMES = {"none": "DRAW, no attention", "filterbank": "DRAW, filterbank attention"}

NUM_ANIMATED = 10  # images side by side in a picture

MAX_STRIP_STEPS = 16  # steps of a drawing side by side, at most


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
    prior: "standard", p(z_t) = N(0, I), or "learned", p(z_t | h_dec_{t-1}) with the posterior relative to it.
    layer_norm: normalise the LSTMs.
    init_scale: standard deviation of the initial weights.
    init_log_variance, init_log_stride: initial log variance [log pixels^2] and log stride~ of both windows; 0 and 0 are
      unit variance and a grid over the whole image.
    init_write_gain: initial factor 1/gamma on what is written. The weights of a filter add up to 1, so at unit variance
      it takes 2 pi for a number of the patch to reach the canvas undiminished.
    unroll, weight_gradients, remat: what of the `Plan` a config says, see `choose_plan`; they change speed and memory
      and nothing else.
    likelihood: of `LIKELIHOODS`, what the pixels are.
    plan: in place of the one that these three and the backend choose.
  """

  RULES: ClassVar[Mapping[str, Constraint]] = {
    "attention": one_of(*DISPLAY_NAMES),
    "num_steps": AT_LEAST_ONE,
    "hidden_dim": AT_LEAST_ONE,
    "latent_dim": AT_LEAST_ONE,
    "read_size": AT_LEAST_ONE,
    "write_size": AT_LEAST_ONE,
    "prior": one_of("standard", "learned"),
    "layer_norm": BOOLEAN,
    "init_scale": POSITIVE,
    "init_log_variance": FINITE,
    "init_log_stride": FINITE,
    "init_write_gain": POSITIVE,
    "unroll": NON_NEGATIVE_INTEGER,
    "weight_gradients": one_of("auto", *CHOICES["weight_gradients"]),
    "remat": one_of(*CHOICES["remat"]),
    "likelihood": one_of(*LIKELIHOODS),
  }
  PERFORMANCE_FIELDS: ClassVar[tuple[str, ...]] = ("unroll", "weight_gradients", "remat")
  STACKED_KERNELS: ClassVar[Mapping[str, int]] = {"encoder": 4, "decoder": 4}  # gates

  image_shape: tuple[int, int, int]
  attention: str = "filterbank"
  num_steps: int = 10
  hidden_dim: int = 256
  latent_dim: int = 32
  read_size: int = 12
  write_size: int = 12
  prior: str = "learned"
  layer_norm: bool = False
  init_scale: float = 0.05
  init_log_variance: float = 0.0
  init_log_stride: float = 0.0
  init_write_gain: float = 1.0
  unroll: int = 0
  weight_gradients: str = "auto"
  remat: str = "none"
  likelihood: str = "bernoulli"
  plan: ExecutionPlan | None = None

  @staticmethod
  def validate(fields: Mapping[str, Any], image_shape: tuple[int, int, int] | None) -> str | None:
    if fields["remat"] != "none" and fields["weight_gradients"] == "deferred":
      return "model.weight_gradients = 'deferred' keeps what model.remat would compute again: drop one of the two"
    if image_shape is not None and fields["attention"] == "filterbank":
      height, width, _ = image_shape
      for key in ("read_size", "write_size"):
        if fields[key] > min(height, width):
          return f"model.{key} = {fields[key]} is larger than the image ({height} x {width} pixels)"
    return None

  @staticmethod
  def title(fields: Mapping[str, Any]) -> str:
    return DISPLAY_NAMES.get(fields.get("attention"), "DRAW")

  def setup(self):
    self.weights = self.param("weights", self.init_weights)
    channels = self.image_shape[-1:]
    self.log_scale = (
      self.param("log_scale", nn.initializers.zeros, channels) if self.observation_model.has_scale else None
    )

  @property
  def heads(self) -> Heads:
    if self.attention == "none":
      return NoAttention(self.image_shape)
    sizes, biases = (self.read_size, self.write_size), (self.init_log_variance, self.init_log_stride)
    return FilterbankAttention(self.image_shape, *sizes, *biases, self.init_write_gain)

  def init_weights(self, key: jax.Array) -> Weights:
    """All weights of the recurrence as one pytree, initial states among them."""
    units, latents, heads = self.hidden_dim, self.latent_dim, self.heads
    heads_key, encoder_key, posterior_key, decoder_key = jax.random.split(key, 4)
    kernel_init = nn.initializers.normal(self.init_scale)
    initial_lstm = LSTMState(hidden=jnp.zeros(units), cell=jnp.zeros(units))
    glimpse = heads.constant_size + heads.varying_size
    # Of zeros, the learned prior starts as the standard one.
    prior = {"prior": layer_from_kernel(jnp.zeros((units, 2 * latents)))} if self.prior == "learned" else {}
    return prior | {
      "attention": heads.init(heads_key, kernel_init, units),
      "encoder": init_lstm(encoder_key, kernel_init, glimpse + units, units, self.layer_norm),
      "posterior": init_linear(posterior_key, kernel_init, units, 2 * latents),
      "decoder": init_lstm(decoder_key, kernel_init, latents, units, self.layer_norm),
      "initial": State(jnp.zeros(self.image_shape), initial_lstm, initial_lstm),
    }

  @property
  def observation_model(self) -> Likelihood:
    return LIKELIHOODS[self.likelihood]

  def init_to_data_mean(self, params: dict[str, Any], mean: jax.Array, std: jax.Array) -> dict[str, Any]:
    weights = params["weights"]
    initial = weights["initial"].replace(canvas=self.observation_model.start(mean))
    return {"weights": weights | {"initial": initial}} | self.observation_model.init_log_scale(std)

  def plan_for(self, backend: str) -> ExecutionPlan:
    """How `__call__` computes the steps on "cpu", "gpu" or "tpu"."""
    return self.plan or choose_plan(self.unroll, self.weight_gradients, self.remat, self.num_steps, backend)

  def __call__(self, images: jax.Array, key: jax.Array) -> ELBOTerms:
    """Terms of the bound for images [B, H, W, C] in [0, 1], L = T."""
    noise, plan = self.noise(key, len(images)), self.plan_for(jax.default_backend())
    canvas, terms = fused.infer(
      self.heads, self.weights, images, noise, self.observation_model.mean, latent_terms, plan
    )
    kl, log_pz, log_qz = (term.T for term in terms)  # [B, T]
    return ELBOTerms(
      self.observation_model.mean(canvas),
      self.observation_model.log_prob(canvas, images, self.log_scale),
      kl,
      log_pz,
      log_qz,
    )

  def noise(self, key: jax.Array, batch: int) -> jax.Array:
    """[T, B, Z] standard normal."""
    return jax.random.normal(key, (self.num_steps, batch, self.latent_dim))

  def infer(self, images: jax.Array, noise: jax.Array) -> Inferred:
    """All that the steps make of images [B, H, W, C] and noise [T, B, Z], with a leading axis T."""
    step = partial(infer_step, self.heads, self.observation_model.mean, images, self.weights)
    return jax.lax.scan(step, initial_state(self.weights, len(images)), noise)[1]

  def sample(self, key: jax.Array, num_samples: int) -> jax.Array:
    """[num_samples, H, W, C] pixel means for latents drawn from the prior, a new one at every step."""
    return self.observation_model.mean(self.generate(self.noise(key, num_samples))[0].canvas)

  def dream(self, key: jax.Array, num_samples: int) -> Drawing:
    """A drawing from the prior, every canvas and write window of it."""
    return self.draw_latents(self.noise(key, num_samples))

  def draw_latents(self, z: jax.Array) -> Drawing:
    """What latents z [T, B, Z], in units of the prior, draw."""
    _, (canvases, write) = self.generate(z)
    return Drawing(self.observation_model.mean(canvases), None, write)

  def generate(self, z: jax.Array) -> tuple[State, tuple]:
    """The last state, and all canvases and write windows, which cost nothing where they are not used."""
    return jax.lax.scan(partial(generate_step, self.heads, self.weights), initial_state(self.weights, z.shape[1]), z)

  def encode(self, images: jax.Array) -> tuple[jax.Array, ...]:
    """T arrays [B, Z]: the posterior mean of every step in units of its prior, given the means before it."""
    return tuple(self.infer(images, jnp.zeros((self.num_steps, len(images), self.latent_dim))).z)

  def posteriors(self, images: jax.Array, key: jax.Array) -> tuple[Gaussian, ...]:
    """T Gaussians [B, Z] in units of the prior, each given a sample of the steps before."""
    posterior = self.infer(images, self.noise(key, len(images))).posterior
    return tuple(map(Gaussian, posterior.mean, posterior.log_std))

  def decode(self, latents: Sequence[jax.Array]) -> jax.Array:
    """[B, H, W, C] pixel means for latents as `encode` gives them."""
    return self.observation_model.mean(self.generate(jnp.stack(latents))[0].canvas)

  def draw(self, images: jax.Array, key: jax.Array) -> Drawing:
    """How images [B, H, W, C] are drawn again: every canvas with the windows that read and wrote."""
    inferred = self.infer(images, self.noise(key, len(images)))
    return Drawing(self.observation_model.mean(inferred.canvas), inferred.read, inferred.write)

  def pictures(self, key: jax.Array, images: jax.Array | None) -> dict[str, Picture]:
    """drawing.gif, images drawn again; dream.gif and dream.png, drawings from the prior, the latter as a strip."""
    drawing_key, dream_key = jax.random.split(key)
    dream = self.dream(dream_key, NUM_ANIMATED)
    shown = np.unique(np.linspace(0, self.num_steps - 1, min(self.num_steps, MAX_STRIP_STEPS)).round().astype(int))
    sizes = {"read_size": self.read_size, "write_size": self.write_size}
    pictures = {
      "dream.gif": DrawingAnimation(dream.canvases, None, None, dream.write, **sizes),
      "dream.png": ImageGrid(dream.canvases[shown].swapaxes(0, 1)),
    }
    if images is not None:
      images = images[:NUM_ANIMATED]
      drawing = self.draw(images, drawing_key)
      pictures["drawing.gif"] = DrawingAnimation(drawing.canvases, images, drawing.read, drawing.write, **sizes)
    return pictures


def latent_terms(inferred: Inferred) -> tuple[jax.Array, ...]:
  """KL(q || p), log p(z) and log q(z) of a step, each [B]; so no step has to keep q and z themselves.

  All in units of the prior, where it is N(0, I): the KL and the difference of the other two are the same there.
  """
  posterior, z = inferred.posterior, inferred.z
  return posterior.kl_to_standard(), standard_normal_log_prob(z), posterior.log_prob(z)
