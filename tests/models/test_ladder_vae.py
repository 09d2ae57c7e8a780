"""The Ladder VAE and its bottom-up control against numpy, with a test for each bug of the replaced project."""

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest

from latentjax.models.ladder_vae import LadderVAE, standard_normals

SHAPE = (4, 5, 1)
WIDTHS, LATENTS = (6, 5, 4), (3, 2, 2)
IMAGES = (np.random.default_rng(0).random((7, *SHAPE)) < 0.5).astype(np.float32)


def key():
  """The same key at every call, as a new object: reusing one is an error."""
  return jax.random.key(2)


def create(inference="ladder", mlp_depth=1, skips=False):
  """Returns (model, variables) with random weights and statistics, so that each matters."""
  model = LadderVAE(SHAPE, WIDTHS, LATENTS, mlp_depth, inference, skips)
  variables = jax.jit(model.init)(jax.random.key(0), jnp.array(IMAGES), jax.random.key(1))
  leaves, structure = jax.tree.flatten(variables)
  generator = np.random.default_rng(1)
  leaves = [leaf + jnp.array(0.3 * generator.random(leaf.shape), jnp.float32) for leaf in leaves]
  return model, jax.tree.unflatten(structure, leaves)


class Numpy:
  """The equations in float64; while `training`, batch norm uses and stores the statistics of the batch."""

  def __init__(self, variables, mlp_depth=1, training=False, skips=False):
    self.params = oracle.float64(variables["params"])
    self.stats = oracle.float64(variables["batch_stats"])
    self.depth, self.training, self.skips, self.seen = mlp_depth, training, skips, {}

  def mlp(self, name, x):
    for layer in range(self.depth):
      below, x = x, x @ self.params[name][f"Dense_{layer}"]["kernel"]
      norm = self.params[name][f"BatchNorm_{layer}"]
      stats = self.stats[name][f"BatchNorm_{layer}"]
      if self.training:
        stats = {"mean": x.mean(0), "var": x.var(0)}
        self.seen.setdefault(name, {})[f"BatchNorm_{layer}"] = stats
      x = (x - stats["mean"]) / np.sqrt(stats["var"] + 1e-5) * norm["scale"] + norm["bias"]
      x = np.where(x > 0, x, 0.01 * x)
      if self.skips and below.shape == x.shape:
        x = below + x
    return x

  def head(self, name, x):
    """Mean and variance."""
    dense = self.params[name]["Dense_0"]
    mean, raw = np.split(x @ dense["kernel"] + dense["bias"], 2, axis=-1)
    return mean, np.log1p(np.exp(raw)) + 1e-6

  def prior(self, i, latents):
    """Mean and variance of z_i given the latents of all layers, of which it uses those above."""
    above = np.concatenate(latents[i + 1 :], axis=-1) if self.skips else latents[i + 1]
    return self.head(f"priors_{i}", self.mlp(f"decoders_{i + 1}", above))

  def ladder(self, x, noise):
    evidence, d = [], x
    for i in range(3):
      d = self.mlp(f"encoders_{i}", d)
      evidence.append(self.head(f"evidence_{i}", d))
    layers = [None] * 3
    mean, variance = evidence[2]
    zeros = np.zeros_like(mean)
    z = mean + np.sqrt(variance) * noise[2]
    layers[2] = (mean, variance, zeros, zeros + 1, z)
    latents = [None, None, z]
    for i in (1, 0):
      prior_mean, prior_variance = self.prior(i, latents)
      mean, variance = evidence[i]
      merged = 1 / (1 / variance + 1 / prior_variance)
      mean = merged * (mean / variance + prior_mean / prior_variance)
      z = mean + np.sqrt(merged) * noise[i]
      layers[i] = (mean, merged, prior_mean, prior_variance, z)
      latents[i] = z
    return layers

  def bottom_up(self, x, noise):
    posteriors, latents = [], []
    for i in range(3):
      mean, variance = self.head(f"evidence_{i}", self.mlp(f"encoders_{i}", x))
      x = mean + np.sqrt(variance) * noise[i]
      posteriors.append((mean, variance))
      latents.append(x)
    priors = [self.prior(i, latents) for i in range(2)]
    zeros = np.zeros_like(latents[2])
    priors.append((zeros, zeros + 1))
    return [(*q, *p, z) for q, p, z in zip(posteriors, priors, latents, strict=True)]

  def logits(self, layers):
    latents = [layer[-1] for layer in layers]
    z = np.concatenate(latents, axis=-1) if self.skips else latents[0]
    dense = self.params["pixels"]
    return (self.mlp("decoders_0", z) @ dense["kernel"] + dense["bias"]).reshape(-1, *SHAPE)


def close(a, b):
  np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
  ("inference", "mlp_depth", "skips"),
  [("ladder", 1, False), ("ladder", 2, True), ("bottom_up", 1, False), ("bottom_up", 1, True)],
)
def test_terms_equal_numpy(inference, mlp_depth, skips, training):
  model, variables = create(inference, mlp_depth, skips)
  terms, updated = jax.jit(model.apply, static_argnames="mutable")(
    variables, IMAGES, key(), mutable=("batch_stats",) if training else ("nothing",)
  )
  noise = [np.asarray(eps, np.float64) for eps in standard_normals(key(), len(IMAGES), LATENTS)]
  expected = Numpy(variables, mlp_depth, training, skips)
  layers = getattr(expected, inference)(IMAGES.reshape(7, -1).astype(np.float64), noise)
  logits = expected.logits(layers)

  close(terms.mean, oracle.sigmoid(logits))
  close(terms.log_px, [oracle.bernoulli_log_prob(logits[b], IMAGES[b]) for b in range(7)])
  for i, (mean, variance, prior_mean, prior_variance, z) in enumerate(layers):
    log_qz = oracle.gaussian_log_prob(z, mean, 0.5 * np.log(variance))
    log_pz = oracle.gaussian_log_prob(z, prior_mean, 0.5 * np.log(prior_variance))
    analytic = 0.5 * (
      (variance + (mean - prior_mean) ** 2) / prior_variance - 1 - np.log(variance / prior_variance)
    ).sum(-1)
    in_units_of_prior = 0.5 * np.log(prior_variance).sum(-1)
    close(terms.log_qz[:, i], log_qz + in_units_of_prior)
    close(terms.log_pz[:, i], log_pz + in_units_of_prior)
    close(terms.kl[:, i], analytic if inference == "ladder" or i == 2 else log_qz - log_pz)
  if training:
    for name, norms in expected.seen.items():
      jax.tree.map(close, updated["batch_stats"][name], norms)
  else:
    assert not updated


@pytest.mark.parametrize("inference", ["ladder", "bottom_up"])
def test_kl_agrees_with_the_mean_of_sampled_densities(inference):
  """The bound is the same with analytic and with sampled KL."""
  model, variables = create(inference)
  terms = jax.jit(jax.vmap(model.apply, (None, None, 0)))(variables, IMAGES, jax.random.split(key(), 4000))
  sampled = np.asarray((terms.log_qz - terms.log_pz).sum(-1), np.float64)  # [K, B]
  analytic = np.asarray(terms.kl.sum(-1), np.float64)
  difference = sampled - analytic
  assert (np.abs(difference.mean(0)) < 5 * difference.std(0) / np.sqrt(4000) + 1e-4).all()


def test_with_skips_every_layer_above_reaches_every_prior():
  """p(z_1 | z_2, z_3) moves with z_3 while z_2 stays."""
  model, variables = create(skips=True)
  latents = [jnp.ones((7, size)) for size in LATENTS]

  def prior_mean(top):
    prior = model.apply(variables, 0, [latents[1], top], method=lambda self, *args: self.prior(*args))
    return prior.mean.sum()

  assert float(jnp.abs(jax.grad(prior_mean)(latents[2])).max()) > 1e-3


def test_every_layer_reaches_the_reconstruction():
  """The replaced decoder continued with the prior's sample, so evidence below the top layer was lost."""
  model, variables = create()

  def reconstruction(shift, layer):
    params = jax.tree.map(lambda x: x, variables["params"])
    dense = params[f"evidence_{layer}"]["Dense_0"]
    dense["bias"] = dense["bias"] + shift
    return model.apply({**variables, "params": params}, IMAGES, key()).log_px.sum()

  for layer in range(3):
    assert float(jnp.abs(jax.grad(reconstruction)(0.0, layer))) > 1e-3, layer


def test_variances_may_fall_below_one():
  """The replaced project applied softplus to the log-variance, so no variance could."""
  model, variables = create()
  for layer in range(3):
    dense = variables["params"][f"evidence_{layer}"]["Dense_0"]
    dense["kernel"] = jnp.zeros_like(dense["kernel"])
    dense["bias"] = jnp.full_like(dense["bias"], -200.0)  # softplus underflows
  layers = model.apply(
    variables, IMAGES, standard_normals(key(), len(IMAGES), LATENTS), method=lambda self, *args: self.infer(*args)
  )
  for layer in layers:
    assert float(jnp.exp(layer.posterior.log_std).max()) < 2e-3
  gradient = jax.grad(lambda v: model.apply(v, IMAGES, key()).elbo.sum())(variables)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize("skips", [False, True])
@pytest.mark.parametrize("inference", ["ladder", "bottom_up"])
def test_decode_inverts_the_units_of_encode(inference, skips):
  """Means of all layers in units of their priors, decoded to the image of the means."""
  model, variables = create(inference, skips=skips)
  latents = model.apply(variables, IMAGES, method="encode")
  assert [z.shape for z in latents] == [(7, size) for size in LATENTS]
  expected = Numpy(variables, skips=skips)
  zeros = [np.zeros((7, size)) for size in LATENTS]
  layers = getattr(expected, inference)(IMAGES.reshape(7, -1).astype(np.float64), zeros)
  close(model.apply(variables, latents, method="decode"), oracle.sigmoid(expected.logits(layers)))


def test_samples_are_decoded_noise():
  model, variables = create()
  noise = standard_normals(key(), 5, LATENTS)
  samples = model.apply(variables, key(), 5, method="sample")
  assert samples.shape == (5, *SHAPE)
  np.testing.assert_array_equal(samples, model.apply(variables, noise, method="decode"))


def test_held_latents_are_the_same_along_a_row(monkeypatch):
  """With a decoder that outputs the latents themselves, z_1 first."""
  monkeypatch.setattr(LadderVAE, "decode", lambda self, latents: jnp.concatenate(latents, axis=1)[..., None, None])
  model = LadderVAE((sum(LATENTS), 1, 1), WIDTHS, LATENTS)
  picture = model.apply({}, key(), None, method="pictures")["layers.png"]
  assert picture.titles == ("nothing held", "held from z3 up", "held from z2 up")
  shown = np.asarray(picture.images)[..., 0, 0]  # [3, R, R, Z]
  for block, latents in enumerate((7, 5, 3)):  # so many latents are redrawn, the others held
    same = (shown[block] == shown[block, :, :1]).all((0, 1))
    np.testing.assert_array_equal(same, np.arange(7) >= latents)
  assert (shown[2, 0, 0, 3:] != shown[2, 1, 0, 3:]).all()
