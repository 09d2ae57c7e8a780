"""Evidence lower bound: its terms, and the losses computed from them.

Shapes: K importance samples, B batch, H W C image, L latent groups (layers or steps). All values are in nats.
"""

import math

import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class ELBOTerms:
  """Per-example terms of the bound for one posterior sample.

  Attributes:
    mean: [B, H, W, C] location of x given z, see `Likelihood.mean`; XLA drops it where only the loss is used.
    log_px: [B] log p(x | z).
    kl: [B, L] KL(q || p) of each latent group, analytic where possible.
    log_pz, log_qz: [B, L] log density of the sampled latents, in units of the prior, under prior and posterior.
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
    """[B] log p(x, z) - log q(z|x): the log importance weight of the sampled latents."""
    return self.log_px + (self.log_pz - self.log_qz).sum(-1)


def negative_elbo(terms: ELBOTerms, beta: jax.Array, free_bits: float) -> jax.Array:
  """Returns the batch mean of -log p(x|z) + beta sum_l max(mean KL_l, free_bits).

  beta < 1 is KL warm-up (Sonderby et al. 2016), beta > 1 a beta-VAE (Higgins et al. 2017); free bits apply to the batch
  mean of each latent group (Kingma et al. 2016, arXiv:1606.04934), and 0 disables them.
  """
  return weighted_loss(-terms.log_px.mean(), terms.kl.mean(0), beta, free_bits)


def weighted_loss(reconstruction, kl, beta, free_bits: float):
  """Returns the loss of `negative_elbo`, [...], from means [...] of -log p(x|z) and [..., L] of each group's KL.

  NumPy arrays keep their precision.
  """
  return reconstruction + beta * (kl.clip(min=free_bits) if free_bits > 0 else kl).sum(-1)


def negative_importance_bound(terms: ELBOTerms, beta: jax.Array) -> jax.Array:
  """Returns the batch mean of -log 1/K sum_k w_k, w = p(x|z) (p(z)/q(z|x))^beta (Burda et al. 2016, arXiv:1509.00519).

  Every field of `terms` has a leading axis K of posterior samples. beta 1 gives the importance-weighted bound.
  """
  log_weight = terms.log_px + beta * (terms.log_pz - terms.log_qz).sum(-1)  # [K, B]
  return -log_mean_exp(log_weight).mean()


def log_mean_exp(log_weight: jax.Array) -> jax.Array:
  """Returns log 1/K sum_k exp(log_weight[k, ...]), [...]."""
  return jax.nn.logsumexp(log_weight, axis=0) - math.log(len(log_weight))


def kl_weight_schedule(beta: float, step: jax.Array, warmup_steps: int) -> jax.Array:
  """Returns the weight of the KL at `step`: linear from 0 to `beta` over `warmup_steps`, then constant."""
  return beta * jnp.clip(step / warmup_steps, 0.0, 1.0) if warmup_steps else jnp.full((), beta)
