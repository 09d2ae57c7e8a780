"""DRAW, a recurrent VAE that refines a canvas over T steps (Gregor et al. 2015, arXiv:1502.04623).

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

from latentjax.config.schema import AT_LEAST_ONE, BOOLEAN, FINITE, NON_NEGATIVE_INTEGER, POSITIVE, key, one_of
from latentjax.models.base import DrawingAnimation, ImageGrid, LikelihoodModel, Picture, likelihood_key
from latentjax.models.distributions import Gaussian, standard_normal_log_prob
from latentjax.models.draw import fused
from latentjax.models.draw.attention import Window
from latentjax.models.draw.heads import FilterbankAttention, Heads, NoAttention, Weights
from latentjax.models.draw.plan import CHOICES, ExecutionPlan, choose_plan
from latentjax.models.draw.reference import Inferred, State, generate_step, infer_step, initial_state
from latentjax.models.elbo import ELBOTerms
from latentjax.models.layers import init_linear, layer_from_kernel
from latentjax.models.recurrent import LSTMState, init_lstm

DISPLAY_NAMES = {"none": "DRAW, no attention", "filterbank": "DRAW, filterbank attention"}
NUM_ANIMATED = 10  # images per picture
MAX_STRIP_STEPS = 16  # columns of dream.png


@struct.dataclass
class Drawing:
  """All steps of a drawing."""

  canvases: jax.Array  # [T, B, H, W, C] pixel means after each step
  read: Window | None  # fields [T, B]; None without attention, and for samples
  write: Window | None  # fields [T, B]; None without attention


class DRAW(LikelihoodModel):
  """VAE with T groups of latents, each conditioned on what the canvas still lacks. For its methods see `Model`.

  Attributes:
    plan: Replaces the plan that `unroll`, `weight_gradients`, `remat` and the backend choose, see `choose_plan`.
  """

  STACKED_KERNELS: ClassVar[Mapping[str, int]] = {"encoder": 4, "decoder": 4}  # gates

  attention: str = key("filterbank", one_of(*DISPLAY_NAMES), "none: reads and writes the whole image")
  num_steps: int = key(
    10,
    AT_LEAST_ONE,
    "steps T, one glimpse and one group of latents each",
    ("t", "steps", "timesteps", "time_steps", "glimpses", "num_glimpses", "seq_len"),
  )
  hidden_dim: int = key(
    256,
    AT_LEAST_ONE,
    "units of each LSTM",
    ("h", "h_dim", "hidden", "hidden_size", "enc_size", "dec_size", "lstm_size"),
  )
  latent_dim: int = key(
    32, AT_LEAST_ONE, "latents per step", ("z", "z_dim", "z_size", "latent", "latent_size", "latents")
  )
  read_size: int = key(12, AT_LEAST_ONE, "N of the N x N filters that read", ("n", "read", "read_n"))
  write_size: int = key(12, AT_LEAST_ONE, "N of the N x N filters that write", ("write", "write_n"))
  prior: str = key(
    "learned",
    one_of("standard", "learned"),
    "standard: N(0, I); learned: from the decoder, and the posterior is relative to it",
  )
  layer_norm: bool = key(False, BOOLEAN, "normalize the LSTMs")
  init_scale: float = key(0.05, POSITIVE, "standard deviation of initial weights")
  init_log_variance: float = key(
    0.0, FINITE, "initial log variance of both windows, in log pixels^2", ("variance_bias",)
  )
  init_log_stride: float = key(
    0.0, FINITE, "initial log stride of both windows; 0: the filters span the image", ("stride_bias",)
  )
  # The weights of a filter add up to 1, so at unit variance only a gain of 2 pi writes values of a patch undiminished.
  init_write_gain: float = key(1.0, POSITIVE, "initial factor 1/gamma on written patches", ("write_gain",))
  unroll: int = key(0, NON_NEGATIVE_INTEGER, "steps per iteration of the compiled loop; 0: by backend", identity=False)
  weight_gradients: str = key(
    "auto",
    one_of("auto", *CHOICES["weight_gradients"]),
    "compute gradients of weights in every step or after the loop; auto: by backend",
    identity=False,
  )
  remat: str = key(
    "none", one_of(*CHOICES["remat"]), "recompute activations instead of storing them, for many steps", identity=False
  )
  likelihood: str = likelihood_key(one_param_per_value=True)
  plan: ExecutionPlan | None = None

  @staticmethod
  def validate(fields: Mapping[str, Any], image_shape: tuple[int, int, int] | None) -> str | None:
    if fields["remat"] != "none" and fields["weight_gradients"] == "deferred":
      return "model.weight_gradients = 'deferred' stores what model.remat would recompute. Drop one of the two."
    if image_shape is not None and fields["attention"] == "filterbank":
      height, width, _ = image_shape
      for size in ("read_size", "write_size"):
        if fields[size] > min(height, width):
          return f"model.{size} = {fields[size]} is larger than the image ({height} x {width} pixels). Make it smaller."
    return None

  @staticmethod
  def display_name(fields: Mapping[str, Any]) -> str:
    return DISPLAY_NAMES.get(fields.get("attention"), "DRAW")

  def setup(self):
    self.weights = self.param("weights", self.init_weights)
    super().setup()

  @property
  def heads(self) -> Heads:
    if self.attention == "none":
      return NoAttention(self.image_shape)
    sizes, biases = (self.read_size, self.write_size), (self.init_log_variance, self.init_log_stride)
    return FilterbankAttention(self.image_shape, *sizes, *biases, self.init_write_gain)

  def init_weights(self, key: jax.Array) -> Weights:
    """Returns all weights of the recurrence, initial states included, as one pytree."""
    units, latents, heads = self.hidden_dim, self.latent_dim, self.heads
    heads_key, encoder_key, posterior_key, decoder_key = jax.random.split(key, 4)
    kernel_init = nn.initializers.normal(self.init_scale)
    initial_lstm = LSTMState(hidden=jnp.zeros(units), cell=jnp.zeros(units))
    # With zeros, the learned prior starts as the standard one.
    prior = {"prior": layer_from_kernel(jnp.zeros((units, 2 * latents)))} if self.prior == "learned" else {}
    return prior | {
      "attention": heads.init(heads_key, kernel_init, units),
      "encoder": init_lstm(encoder_key, kernel_init, sum(heads.glimpse_sizes) + units, units, self.layer_norm),
      "posterior": init_linear(posterior_key, kernel_init, units, 2 * latents),
      "decoder": init_lstm(decoder_key, kernel_init, latents, units, self.layer_norm),
      "initial": State(jnp.zeros(self.image_shape), initial_lstm, initial_lstm),
    }

  def init_to_data_mean(self, params: dict[str, Any], mean: jax.Array, std: jax.Array) -> dict[str, Any]:
    weights = params["weights"]
    initial = weights["initial"].replace(canvas=self.observation_model.init_params(mean))
    return {"weights": weights | {"initial": initial}} | self.observation_model.init_log_scale(std)

  def plan_for(self, backend: str) -> ExecutionPlan:
    """Returns the plan by which `__call__` computes the steps on "cpu", "gpu" or "tpu"."""
    return self.plan or choose_plan(self.unroll, self.weight_gradients, self.remat, self.num_steps, backend)

  def __call__(self, images: jax.Array, key: jax.Array) -> ELBOTerms:
    noise, plan, likelihood = self.noise(key, len(images)), self.plan_for(jax.default_backend()), self.observation_model
    canvas, terms = fused.infer(self.heads, self.weights, images, noise, likelihood.mean, _latent_terms, plan)
    kl, log_pz, log_qz = (term.T for term in terms)  # [B, T]
    return ELBOTerms(likelihood.mean(canvas), likelihood.log_prob(canvas, images, self.log_scale), kl, log_pz, log_qz)

  def noise(self, key: jax.Array, batch: int) -> jax.Array:
    """Returns standard normal noise [T, B, Z]."""
    return jax.random.normal(key, (self.num_steps, batch, self.latent_dim))

  def infer(self, images: jax.Array, noise: jax.Array) -> Inferred:
    """Returns the results of all steps for images [B, H, W, C] and noise [T, B, Z], with a leading axis T."""
    step = partial(infer_step, self.heads, self.observation_model.mean, images, self.weights)
    return jax.lax.scan(step, initial_state(self.weights, len(images)), noise)[1]

  def sample(self, key: jax.Array, num_samples: int) -> jax.Array:
    return self.observation_model.mean(self.generate(self.noise(key, num_samples))[0].canvas)

  def dream(self, key: jax.Array, num_samples: int) -> Drawing:
    """Returns drawings from the prior, with all canvases and write windows."""
    return self.draw_latents(self.noise(key, num_samples))

  def draw_latents(self, z: jax.Array) -> Drawing:
    """Returns the drawings of latents z [T, B, Z] in units of the prior."""
    _, (canvases, write) = self.generate(z)
    return Drawing(self.observation_model.mean(canvases), None, write)

  def generate(self, z: jax.Array) -> tuple[State, tuple]:
    """Returns the last state, and all canvases and write windows, which XLA drops if unused."""
    return jax.lax.scan(partial(generate_step, self.heads, self.weights), initial_state(self.weights, z.shape[1]), z)

  def encode(self, images: jax.Array) -> tuple[jax.Array, ...]:
    return tuple(self.infer(images, jnp.zeros((self.num_steps, len(images), self.latent_dim))).z)

  def posteriors(self, images: jax.Array, key: jax.Array) -> tuple[Gaussian, ...]:
    posterior = self.infer(images, self.noise(key, len(images))).posterior
    return tuple(map(Gaussian, posterior.mean, posterior.log_std))

  def decode(self, latents: Sequence[jax.Array]) -> jax.Array:
    return self.observation_model.mean(self.generate(jnp.stack(latents))[0].canvas)

  def draw(self, images: jax.Array, key: jax.Array) -> Drawing:
    """Returns reconstructions of images [B, H, W, C], with all canvases, read windows and write windows."""
    inferred = self.infer(images, self.noise(key, len(images)))
    return Drawing(self.observation_model.mean(inferred.canvas), inferred.read, inferred.write)

  def pictures(self, key: jax.Array, images: jax.Array | None) -> dict[str, Picture]:
    """Returns drawing.gif, reconstructions; dream.gif and dream.png, samples, animated and as strips."""
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


def _latent_terms(inferred: Inferred) -> tuple[jax.Array, ...]:
  """Returns KL(q || p), log p(z) and log q(z) of a step in units of the prior, [B] each, so that no q and z are stored.

  The KL, and the difference of the other two, do not depend on these units.
  """
  posterior = inferred.posterior
  return posterior.kl_to_standard(), standard_normal_log_prob(inferred.z), posterior.log_prob_of_sample(inferred.noise)
