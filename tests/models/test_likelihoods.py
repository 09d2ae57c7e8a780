"""Each likelihood against a float64 loop over channel values."""

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest

from latentjax.models.likelihoods import Bernoulli, DiscretizedLogistic, LogisticMixture

LEVELS = np.arange(256) / 255
LOGISTIC = DiscretizedLogistic()
MIXTURE = LogisticMixture(num_components=3)


@pytest.mark.parametrize("shape", [(2, 3, 4, 1), (2, 3, 2, 3)])
def test_bernoulli_log_prob(shape):
  generator = np.random.default_rng(0)
  logits = generator.normal(0, 3, shape)
  for images in (generator.integers(0, 2, shape).astype(np.float32), generator.random(shape)):  # binary, then gray
    expected = [oracle.bernoulli_log_prob(*pair) for pair in zip(logits, images, strict=True)]
    np.testing.assert_allclose(Bernoulli().log_prob(jnp.array(logits), jnp.array(images)), expected, rtol=1e-5)


def test_bernoulli_starts_at_the_mean_but_not_saturated():
  mean = jnp.array([0.0, 0.3, 1.0]).reshape(3, 1, 1)
  np.testing.assert_allclose(Bernoulli().mean(Bernoulli().init_params(mean)).ravel(), [0.01, 0.3, 0.99], rtol=1e-5)


def test_bernoulli_log_prob_of_huge_logits():
  """A correct certain prediction costs 0, a wrong one the logit, without infinity or NaN."""
  logits = jnp.array([1e4, -1e4, 1e4, -1e4]).reshape(4, 1, 1, 1)
  images = jnp.array([1.0, 0.0, 0.0, 1.0]).reshape(4, 1, 1, 1)
  np.testing.assert_allclose(Bernoulli().log_prob(logits, images), [0, 0, -1e4, -1e4])
  gradient = jax.grad(lambda logits: Bernoulli().log_prob(logits, images).sum())(logits)
  np.testing.assert_allclose(gradient.ravel(), [0, 0, -1, 1], atol=1e-6)


def test_gradient_is_pixel_minus_probability_also_at_zero():
  """A canvas that no window has reached is exactly 0, where the terms of softplus have kinks."""
  logits = jnp.array([-1.5, -0.0, 0.0, 2.0, 0.0]).reshape(1, 5, 1, 1)
  images = jnp.array([1.0, 1.0, 0.0, 0.0, 0.25]).reshape(1, 5, 1, 1)
  gradient = jax.grad(lambda logits: Bernoulli().log_prob(logits, images).sum())(logits)
  np.testing.assert_allclose(gradient, images - jax.nn.sigmoid(logits), atol=1e-6)


def log_probs(center: float, log_scale: float) -> jax.Array:
  """Returns the log probabilities [256] of a channel value."""
  numbers = jnp.full((256, 1, 1, 1), 4.0 * (center - 0.5))
  return LOGISTIC.log_prob(numbers, jnp.array(LEVELS).reshape(256, 1, 1, 1), jnp.array([log_scale]))


@pytest.mark.parametrize("log_scale", [-30.0, -12.0, -7.0, -4.0, -1.0, 2.0, 12.0, 30.0])
@pytest.mark.parametrize("center", [-3.0, 0.0, 0.3, 0.501, 1.0, 40.0])
def test_the_256_probabilities_add_up_to_1(center, log_scale):
  np.testing.assert_allclose(np.exp(np.float64(log_probs(center, log_scale))).sum(), 1, rtol=2e-6)


def test_discretized_logistic_log_prob():
  generator = np.random.default_rng(0)
  shape = (3, 4, 3, 2)
  numbers, log_scale = generator.normal(0, 2, shape).astype(np.float32), np.array([-1.0, -3.0], np.float32)
  images = generator.integers(0, 256, shape)
  images[0, 0], images[0, 1] = 0, 255  # the open ends
  images = (images / 255).astype(np.float32)
  actual = LOGISTIC.log_prob(*map(jnp.array, (numbers, images, log_scale)))
  expected = [oracle.discretized_logistic_log_prob(numbers[i], log_scale, images[i]) for i in range(len(images))]
  np.testing.assert_allclose(actual, expected, rtol=1e-5)


@pytest.mark.parametrize(("log_scale", "distance"), [(-4.0, 0.3), (-5.0, 0.9), (-12.0, 0.5), (-12.0, 1.0)])
def test_a_far_tail_falls_by_its_distance_in_scales(log_scale, distance):
  """If both sigmoids are 0 or 1 in float32, log p = -distance / s to the nearest end of the interval."""
  log_p = log_probs(1.0 - distance, log_scale)[255]
  np.testing.assert_allclose(log_p, -(distance - 0.5 / 255) / np.exp(log_scale), rtol=1e-4)


def test_gradients_of_the_discretized_logistic_are_finite_differences_of_the_oracle():
  generator = np.random.default_rng(1)
  numbers, log_scale = generator.normal(0, 1, (1, 2, 3, 2)), np.array([-1.5, -2.5])
  image = np.array([0, 255, 17, 128, 200, 1, 254, 90, 0, 255, 60, 3]).reshape(1, 2, 3, 2) / 255
  gradients = jax.grad(lambda *x: LOGISTIC.log_prob(x[0], jnp.array(image), x[1]).sum(), argnums=(0, 1))(
    jnp.array(numbers), jnp.array(log_scale)
  )
  for index, (array, gradient) in enumerate(zip((numbers, log_scale), gradients, strict=True)):
    expected = np.empty_like(array)
    for place in np.ndindex(array.shape):
      step = np.zeros_like(array)
      step[place] = 1e-6
      ends = [
        oracle.discretized_logistic_log_prob(
          *((numbers + sign * step)[0], log_scale) if index == 0 else (numbers[0], log_scale + sign * step), image[0]
        )
        for sign in (1, -1)
      ]
      expected[place] = (ends[0] - ends[1]) / 2e-6
    np.testing.assert_allclose(gradient, expected, rtol=2e-4, atol=2e-4)


def test_values_count_as_the_nearest_of_256():
  numbers, log_scale = jnp.zeros((1, 1, 3, 1)), jnp.array([-3.0])
  near = jnp.array([0.0004, 0.5, 0.9996]).reshape(1, 1, 3, 1)
  whole = jnp.array([0, 128, 255]).reshape(1, 1, 3, 1) / 255
  np.testing.assert_allclose(LOGISTIC.log_prob(numbers, near, log_scale), LOGISTIC.log_prob(numbers, whole, log_scale))


def test_mean_is_the_median():
  """Half of the probability lies to each side of it, also at the ends."""
  for center in (-0.2, 0.0, 64 / 255, 0.701, 1.3):
    shown = round(255 * float(LOGISTIC.mean(jnp.array(4.0 * (center - 0.5)))))
    p = np.exp(np.float64(log_probs(center, -3.0)))
    assert p[:shown].sum() < 0.5 < p[: shown + 1].sum()


def test_logistic_starts_at_the_mean_and_standard_deviation():
  """`init_log_scale` gives the standard deviation of the discretized distribution."""
  mean, std = jnp.array([0.0, 0.3, 1.0]).reshape(3, 1, 1), jnp.array([0.05])
  np.testing.assert_allclose(LOGISTIC.mean(LOGISTIC.init_params(mean)), mean, atol=1e-6)
  (log_scale,) = LOGISTIC.init_log_scale(std).values()
  p = np.exp(np.float64(log_probs(0.5, float(log_scale[0]))))
  np.testing.assert_allclose(np.sqrt((p * (LEVELS - 0.5) ** 2).sum()), 0.05, rtol=0.01)
  assert np.isfinite(LOGISTIC.init_log_scale(jnp.zeros(1))["log_scale"]).all()


def mixture_params(generator, *shape, scale=1.0):
  """Random parameters of images [*shape], and log_scale [C]."""
  *size, channels = shape
  params = generator.normal(0, scale, (*size, MIXTURE.params_per_pixel(channels))).astype(np.float32)
  return params, generator.normal(-2.5, 0.5, channels).astype(np.float32)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_logistic_mixture_log_prob(channels):
  generator = np.random.default_rng(channels)
  shape = (3, 4, 3, channels)
  params, log_scale = mixture_params(generator, *shape)
  images = generator.integers(0, 256, shape)
  images[0, 0], images[0, 1] = 0, 255  # the open ends
  images = (images / 255).astype(np.float32)
  actual = jax.jit(MIXTURE.log_prob)(params, images, log_scale)
  expected = [oracle.logistic_mixture_log_prob(params[i], log_scale, images[i], 3) for i in range(len(images))]
  np.testing.assert_allclose(actual, expected, rtol=2e-5)


@pytest.mark.parametrize("offset", [-7.0, 0.0, 6.0])  # of log scales: from within a level to beyond the range of x
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_the_256_values_of_a_channel_add_up_to_the_channels_before_it(channels, offset):
  """So all colors add up to 1, since sum_b p(r, g, b) = p(r, g), sum_g p(r, g) = p(r) and sum_r p(r) = 1."""
  generator = np.random.default_rng(0)
  params, log_scale = mixture_params(generator, 1, 1, channels)
  kinds = params.reshape(-1, 3)  # logits, means, log scales, coefficients
  without = [0, *range(1, channels), *range(channels + 1, 2 * channels)]
  without += range(2 * channels + 1, 2 * channels + 1 + (channels - 1) * (channels - 2) // 2)
  before = generator.integers(0, 256, channels - 1) / 255
  colors = np.broadcast_to(np.append(before, 0), (256, 1, 1, channels)).astype(np.float32)
  colors[:, 0, 0, -1] = LEVELS
  log_p = MIXTURE.log_prob(jnp.broadcast_to(params, (256, *params.shape)), jnp.array(colors), log_scale + offset)
  expected = 0.0
  if channels > 1:
    fewer = jnp.array(kinds[without].reshape(1, 1, 1, -1))
    before = jnp.array(before.reshape(1, 1, 1, -1), jnp.float32)
    expected = float(MIXTURE.log_prob(fewer, before, log_scale[:-1] + offset)[0])
  np.testing.assert_allclose(np.logaddexp.reduce(np.float64(log_p)), expected, rtol=1e-5, atol=1e-5)


def test_gradients_of_the_logistic_mixture_are_finite_differences_of_the_oracle():
  generator = np.random.default_rng(1)
  params, log_scale = mixture_params(generator, 1, 2, 2, 3, scale=0.5)
  image = np.array([0, 255, 17, 128, 200, 1, 254, 90, 127, 255, 60, 3], np.float32).reshape(1, 2, 2, 3) / 255
  params[0, 1, 0, 9:12] = 0  # blue is on the edge between two levels, with sigmoids of 0
  params[0, 1, 0, -6:] = 0
  gradients = jax.jit(jax.grad(lambda *x: MIXTURE.log_prob(x[0], image, x[1]).sum(), argnums=(0, 1)))(params, log_scale)
  for index, gradient in enumerate(gradients):
    for place in np.ndindex(gradient.shape):
      ends = []
      for sign in (1, -1):
        moved = [np.float64(params), np.float64(log_scale)]
        moved[index][place] += sign * 1e-5
        ends.append(oracle.logistic_mixture_log_prob(moved[0][0], moved[1], image[0], 3))
      np.testing.assert_allclose(gradient[place], (ends[0] - ends[1]) / 2e-5, rtol=2e-3, atol=2e-3)


def test_the_mean_of_a_mixture_is_the_expectation():
  """Summed over all values of each channel given draws of those before it, away from the open ends."""
  generator = np.random.default_rng(3)
  params, _ = mixture_params(generator, 1, 1, 2, scale=0.3)
  colors = np.stack(np.meshgrid(LEVELS, LEVELS, indexing="ij"), -1).astype(np.float32).reshape(-1, 1, 1, 2)
  images = jnp.broadcast_to(params, (len(colors), *params.shape))
  p = np.exp(np.float64(MIXTURE.log_prob(images, jnp.array(colors), jnp.full(2, -4.0))))
  np.testing.assert_allclose(p.sum(), 1, rtol=1e-4)
  np.testing.assert_allclose(MIXTURE.mean(jnp.array(params)).ravel(), p @ colors.reshape(-1, 2), atol=1e-3)


def test_a_mixture_starts_at_the_mean_and_standard_deviation():
  """With the output layer's weights at 0 it is one logistic."""
  mean, std = jnp.array([[[0.2, 0.5, 0.9]]]), jnp.array([0.05, 0.1, 0.02])
  params, log_scale = MIXTURE.init_params(mean), MIXTURE.init_log_scale(std)["log_scale"]
  image = jnp.array([[[[50, 130, 255]]]]) / 255
  np.testing.assert_allclose(MIXTURE.mean(params), mean, atol=1e-6)
  np.testing.assert_allclose(
    MIXTURE.log_prob(params[None], image, log_scale),
    LOGISTIC.log_prob(LOGISTIC.init_params(mean)[None], image, log_scale),
    rtol=1e-5,
  )
  assert MIXTURE.init_gain(std).shape == params.shape[-1:]
