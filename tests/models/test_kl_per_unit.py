"""The KL of every unit, of every kind of model, adds up to what the bound has."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from latentjax.models.draw.model import DRAW
from latentjax.models.ladder_vae import LadderVAE
from latentjax.models.vae import VAE

SHAPE = (4, 5, 1)
MODELS = {
  "vae": VAE(SHAPE, hidden_dims=(6,), latent_dim=2),
  "ladder": LadderVAE(SHAPE, (5, 4), (3, 2)),
  "draw": DRAW(SHAPE, num_steps=2, hidden_dim=4, latent_dim=3, read_size=2, write_size=3, prior="learned"),
}


@pytest.mark.parametrize("name", MODELS)
def test_units_add_up_to_the_terms_of_the_same_key(name):
  model = MODELS[name]
  images = (np.random.default_rng(0).random((3, *SHAPE)) < 0.5).astype(np.float32)

  def both(key):
    init_key, sample_key, key = jax.random.split(key, 3)
    variables = model.init(init_key, images, sample_key)
    leaves, structure = jax.tree.flatten(variables["params"])
    noise = np.random.default_rng(1)
    params = structure.unflatten([leaf + 0.3 * noise.random(leaf.shape).astype(np.float32) for leaf in leaves])
    variables = {**variables, "params": params}
    return model.apply(variables, images, key).kl, model.apply(variables, images, key, method="posteriors")

  with jax.debug_key_reuse(False):  # the same key is the point
    kl, posteriors = jax.jit(both)(jax.random.key(0))
  units = [posterior.kl_per_unit() for posterior in posteriors]
  assert kl.shape == (3, len(units))
  np.testing.assert_allclose(jnp.stack([unit.sum(-1) for unit in units], axis=-1), kl, rtol=1e-4, atol=1e-5)
  assert min(float(unit.std()) for unit in units) > 0
