"""Terms become a loss.

Shapes: K importance samples, B batch, L latent groups. All values in nats.
"""

import math

import jax
import jax.numpy as jnp

from latentjax.models import Terms


def negative_elbo(terms: Terms, beta: jax.Array, free_bits: float) -> jax.Array:
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


def negative_importance_bound(terms: Terms, beta: jax.Array) -> jax.Array:
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


def warmed_up(beta: float, step: jax.Array, warmup_steps: int) -> jax.Array:
  """The KL's weight at a step: linear from 0 to beta over `warmup_steps`, then beta."""
  if warmup_steps == 0:
    return jnp.full((), beta)
  return beta * jnp.clip(step / warmup_steps, 0.0, 1.0)
