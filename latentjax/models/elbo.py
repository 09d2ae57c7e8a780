"""Terms of the evidence lower bound, and losses made from them.

Shapes: K importance samples, B batch, H W C image, L latent groups (1 for a VAE, layers for a Ladder VAE,
steps for DRAW). All values in nats.
"""

import math

import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class ELBOTerms:
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


def negative_elbo(terms: ELBOTerms, beta: jax.Array, free_bits: float) -> jax.Array:
  """Batch mean of -log p(x|z) + beta sum_l max(mean KL_l, free_bits).

  beta < 1 is KL warm-up (Sonderby et al. 2016), beta > 1 a beta-VAE (Higgins et al. 2017); free bits are per
  latent group on the batch's mean (Kingma et al. 2016, arXiv:1606.04934). With 1 and 0 it is the negative ELBO.

  Args:
    beta: scalar weight of the KL.
    free_bits: nats of each group that cost the same whether used or not; 0 turns it off.
  """
  return weighted_loss(-terms.log_px.mean(), terms.kl.mean(0), beta, free_bits)


def weighted_loss(reconstruction, kl, beta, free_bits: float):
  """[...] the same of means over a batch, or over a whole split; of arrays of JAX or, in their precision, of NumPy.

  Args:
    reconstruction: [...] mean of -log p(x|z).
    kl: [..., L] mean KL of every latent group.
  """
  if free_bits > 0:
    kl = kl.clip(min=free_bits)
  return reconstruction + beta * kl.sum(-1)


def negative_importance_bound(terms: ELBOTerms, beta: jax.Array) -> jax.Array:
  """Batch mean of -log 1/K sum_k w_k, w = p(x|z) (p(z)/q(z|x))^beta (Burda et al. 2016, arXiv:1509.00519).

  Args:
    terms: with a leading axis K of posterior samples in every field.
    beta: scalar; 1 gives the importance-weighted bound.
  """
  log_weight = terms.log_px + beta * (terms.log_pz - terms.log_qz).sum(-1)  # [K, B]
  return -log_mean_exp(log_weight).mean()


def log_mean_exp(log_weight: jax.Array) -> jax.Array:
  """[...] log 1/K sum_k exp(log_weight[k, ...])."""
  return jax.nn.logsumexp(log_weight, axis=0) - math.log(len(log_weight))


def kl_weight_schedule(beta: float, step: jax.Array, warmup_steps: int) -> jax.Array:
  """The KL's weight at a step: linear from 0 to beta over `warmup_steps`, then beta."""
  if warmup_steps == 0:
    return jnp.full((), beta)
  return beta * jnp.clip(step / warmup_steps, 0.0, 1.0)
