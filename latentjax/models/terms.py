"""What every model returns: the terms of the evidence lower bound.

Shapes: B batch, H W C image, L latent groups (1 for a VAE, layers for a Ladder VAE, glimpses for DRAW).
"""

import jax
from flax import struct


@struct.dataclass
class Terms:
  """Per-example terms for one posterior sample, in nats.

  Attributes:
    mean: [B, H, W, C] where x given z lies, see `Likelihood.mean`, for pictures; a training step does not use it, so it
      is not computed there.
    log_px: [B] log p(x | z).
    kl: [B, L] KL(q || p) of each latent group, analytic where it can be.
    log_pz, log_qz: [B, L] log density of the drawn latents under prior and posterior, up to a number that both may have
      in common: DRAW's are densities in units of its prior.
  """

  mean: jax.Array
  log_px: jax.Array
  kl: jax.Array
  log_pz: jax.Array
  log_qz: jax.Array

  @property
  def elbo(self) -> jax.Array:
    """[B] log p(x|z) - sum_l KL_l: the bound with analytic KL and beta 1."""
    return self.log_px - self.kl.sum(-1)

  @property
  def log_weight(self) -> jax.Array:
    """[B] log p(x, z) - log q(z|x): the importance weight of the drawn latents."""
    return self.log_px + (self.log_pz - self.log_qz).sum(-1)
