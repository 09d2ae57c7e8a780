"""The convolutional Ladder VAE against loops in float64, written from the equations of its module."""

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
import tiny

from latentjax import models
from latentjax.models.conv_ladder import ConvLadderVAE
from latentjax.models.distributions import standard_normals
from latentjax.runtime.errors import UsageError

SHAPE = (4, 6, 1)
LEVELS = "1:1x4z3 2:2x3z2"
SIZES = [12, 12, 3]  # 2 x 3 positions of two latents in the lower layers, one of three at the top
IMAGES = (np.random.default_rng(0).random((5, *SHAPE)) < 0.5).astype(np.float32)


def key():
  """The same key at every call, as a new object: reusing one is an error."""
  return jax.random.key(2)


def create(merge="concat", remat=False):
  """Returns (model, variables) with random weights, so that each matters; some deviations are at their limits."""
  model = ConvLadderVAE(SHAPE, LEVELS, merge, remat)
  shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.array(IMAGES), jax.random.key(1)))
  generator = np.random.default_rng(1)
  variables = jax.tree.map(lambda x: generator.normal(0, 0.3, x.shape).astype(np.float32), shapes)
  variables["params"]["pixels"]["kernel"] *= np.float32(0.1)  # for logits that the oracle can do
  layer = variables["params"]["layers_1_0"]
  layer["prior"]["bias"][2:] = -20, 5
  if merge == "concat":
    layer["posterior"]["bias"][2] = -20
  return model, variables


class Numpy:
  """The equations for one image, position by position."""

  def __init__(self, variables, merge="concat"):
    self.params, self.merge = oracle.float64(variables["params"]), merge

  def conv(self, layer, x):
    kernel, bias = layer["kernel"], layer["bias"]
    if kernel.ndim == 2:
      return x @ kernel + bias
    height, width, _ = x.shape
    y = np.zeros((height, width, len(bias))) + bias
    for r, c in np.ndindex(height, width):
      for i, j in np.ndindex(3, 3):
        if 0 <= r + i - 1 < height and 0 <= c + j - 1 < width:
          y[r, c] += x[r + i - 1, c + j - 1] @ kernel[i, j]
    return y

  def block(self, layer, x):
    return x + self.conv(layer["Conv_0"], activate(self.conv(layer["Conv_1"], activate(x))))

  def up(self, image):
    mean = oracle.sigmoid(self.params["offset"])
    d = to_depth(image - mean, 2, 3)
    fine = self.block(self.params["up_blocks_1"], self.conv(self.params["up_in_1"], d))
    coarse = self.block(self.params["up_blocks_0"], self.conv(self.params["up_in_0"], to_depth(fine, 1, 1)))
    return coarse, fine

  def gaussian(self, layer, x, lowest):
    mean, log_std = np.split(self.conv(layer, x), 2, axis=-1)
    return mean, np.clip(log_std, lowest, 3)

  def layer(self, layer, h, d, noise):
    """Returns the next h, and mean and log deviation of q and of p, if d is given; else noise is in units of p."""
    mu, log_s = self.gaussian(layer["prior"], activate(h), -4)
    s, noise = np.exp(log_s), noise.reshape(mu.shape)
    mean, log_std = mu, log_s
    if d is not None and self.merge == "precision":
      other_mean, log_other = self.gaussian(layer["evidence"], activate(d), -4)
      precisions = np.exp(-2 * log_s), np.exp(-2 * log_other)
      mean = (mu * precisions[0] + other_mean * precisions[1]) / sum(precisions)
      log_std = -0.5 * np.log(sum(precisions))
    elif d is not None:
      merged = self.conv(layer["merge_h"], activate(h)) + self.conv(layer["merge_d"], d)
      m, log_t = self.gaussian(layer["posterior"], activate(merged), -6)
      mean, log_std = mu + s * m, log_s + log_t
    z = mean + np.exp(log_std) * noise
    h = h + self.conv(layer["z"], z)
    return self.block(layer["block"], h), (mean, log_std, mu, log_s, z)

  def run(self, image, noise):
    """Returns logits, and what `layer` returns of every layer from the image up; `image` None generates."""
    features = (None, None) if image is None else self.up(image)
    h, top = self.layer(self.params["layers_0_0"], self.params["map_0"], features[0], noise[2])
    entered = to_space(self.conv(self.params["down_out_0"], activate(h)), 2, 3)
    h, middle = self.layer(self.params["layers_1_0"], self.params["map_1"] + entered, features[1], noise[1])
    h, bottom = self.layer(self.params["layers_1_1"], h, features[1], noise[0])
    logits = to_space(self.conv(self.params["pixels"], activate(h)), 4, 6) + self.params["offset"]
    return logits, [bottom, middle, top]


def activate(x):
  return np.where(x > 0, x, 0.1 * x)


def to_depth(x, height, width):
  rows, columns = x.shape[0] // height, x.shape[1] // width
  y = np.zeros((height, width, rows * columns * x.shape[2]))
  for r, c in np.ndindex(height, width):
    y[r, c] = x[rows * r : rows * (r + 1), columns * c : columns * (c + 1)].ravel()
  return y


def to_space(x, height, width):
  rows, columns = height // x.shape[0], width // x.shape[1]
  y = np.zeros((height, width, x.shape[2] // (rows * columns)))
  for r, c in np.ndindex(x.shape[:2]):
    y[rows * r : rows * (r + 1), columns * c : columns * (c + 1)] = x[r, c].reshape(rows, columns, -1)
  return y


def close(a, b):
  np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("merge", ["concat", "precision"])
def test_terms_equal_numpy(merge):
  model, variables = create(merge)
  terms = jax.jit(model.apply)(variables, IMAGES, key())
  noise = [np.asarray(eps, np.float64) for eps in standard_normals(key(), len(IMAGES), SIZES)]
  oracle_model = Numpy(variables, merge)
  for b, image in enumerate(IMAGES):
    logits, layers = oracle_model.run(image, [eps[b] for eps in noise])
    close(terms.mean[b], oracle.sigmoid(logits))
    close(terms.log_px[b], oracle.bernoulli_log_prob(logits, image))
    for i, layer in enumerate(layers):
      mean, log_std, prior_mean, prior_log_std, z = map(np.ravel, layer)
      in_units_of_prior = prior_log_std.sum()
      close(terms.log_qz[b, i], oracle.gaussian_log_prob(z, mean, log_std) + in_units_of_prior)
      close(terms.log_pz[b, i], oracle.gaussian_log_prob(z, prior_mean, prior_log_std) + in_units_of_prior)
      ratio = np.exp(2 * (log_std - prior_log_std))
      shift = (mean - prior_mean) / np.exp(prior_log_std)
      close(terms.kl[b, i], 0.5 * (ratio + shift**2 - 1 - np.log(ratio)).sum())


@pytest.mark.parametrize("merge", ["concat", "precision"])
def test_decode_inverts_the_units_of_encode(merge):
  """Means of all layers in units of their priors, decoded to the image of the means."""
  model, variables = create(merge)
  latents = jax.jit(lambda variables: model.apply(variables, IMAGES, method="encode"))(variables)
  assert [z.shape for z in latents] == [(5, size) for size in SIZES]
  decoded = jax.jit(lambda variables, z: model.apply(variables, z, method="decode"))(variables, latents)
  zeros = [np.zeros(size) for size in SIZES]
  for image, pixels in zip(IMAGES, decoded, strict=True):
    close(pixels, oracle.sigmoid(Numpy(variables, merge).run(image, zeros)[0]))


def test_samples_are_decoded_noise():
  model, variables = create()
  samples = jax.jit(lambda variables: model.apply(variables, key(), 3, method="sample"))(variables)
  noise = [np.asarray(eps, np.float64) for eps in standard_normals(key(), 3, SIZES)]
  for b in range(3):
    close(samples[b], oracle.sigmoid(Numpy(variables).run(None, [eps[b] for eps in noise])[0]))


def test_recomputed_activations_change_no_gradient():
  """With and without `model.remat`; only with it are there layers to recompute."""

  def gradient(remat):
    model, variables = create(remat=remat)
    function = jax.grad(lambda variables: model.apply(variables, IMAGES, key()).elbo.sum())
    return jax.jit(function)(variables), str(jax.make_jaxpr(function)(variables)).count("remat")

  (stored, none), (recomputed, some) = gradient(False), gradient(True)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), stored, recomputed)
  assert none == 0 < some


def model_config(levels):
  return tiny.create_config("conv_ladder", {"model.levels": levels}).model


@pytest.mark.parametrize(
  "levels", ["", " ", "7", "1:1x4z2,7:1x3z1", "7:1x3z1 1:1x4z2", "7:1x3z1 7:1x3z1", "0:1x4z2", "1:0x4z2", "1:1x4z-2", 7]
)
def test_malformed_levels_are_refused(levels):
  with pytest.raises(UsageError, match=r"^model\.levels must be HEIGHT:LAYERSxCHANNELSzLATENTS .* not "):
    models.check_model(model_config(levels))


@pytest.mark.parametrize(
  ("levels", "image_shape", "problem"),
  [
    ("1:1x4z2 7:1x3z1 16:1x2z1", (28, 28, 1), "16 x 16 positions do not divide 28 x 28"),
    ("1:1x4z2 4:1x3z1 14:1x2z1", (28, 28, 1), "4 x 4 positions do not divide 14 x 14"),
    ("1:1x4z2 7:1x3z1", (28, 30, 1), "7 x 7 positions do not divide 28 x 30"),
    ("56:1x4z2", (28, 28, 3), "56 x 56 positions do not divide 28 x 28"),
  ],
)
def test_levels_that_do_not_divide_the_images_are_refused(levels, image_shape, problem):
  with pytest.raises(UsageError, match=rf"^model\.levels: {problem} evenly\. Each level must divide the next, "):
    models.create_model(model_config(levels), image_shape)


@pytest.mark.parametrize(
  ("levels", "shape", "positions"),
  [
    ("1:1x4z2 7:1x3z1 14:1x3z1", (28, 20, 1), [(14, 10), (7, 5), (1, 1)]),
    ("1:1x4z2 2:1x3z1 4:1x3z1", (8, 24, 3), [(4, 12), (2, 6), (1, 3)]),
    ("1:1x4z2 7:1x3z1", (28, 1, 1), [(7, 1), (1, 1)]),
  ],
)
def test_levels_have_the_proportions_of_the_image(levels, shape, positions):
  model, images = models.create_model(model_config(levels), shape), jnp.zeros((2, *shape))
  assert [size[:2] for size in model.shapes] == positions
  variables = jax.eval_shape(model.init, jax.random.key(0), images, jax.random.key(1))
  assert jax.eval_shape(model.apply, variables, images, jax.random.key(2)).mean.shape == (2, *shape)


def test_both_posteriors_have_a_name():
  assert models.display_name(model_config("1:1x4z2")) == "Convolutional Ladder VAE"
  precision = tiny.create_config("conv_ladder", {"model.merge": "precision"}).model
  assert models.display_name(precision) == "Convolutional Ladder VAE, precision-weighted"
