"""DRAW against a float64 loop over examples and steps, with a test for each bug of the project it replaces."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest

from latentjax.models.draw.model import DRAW
from latentjax.models.draw.plan import choose_plan
from latentjax.models.draw.reference import generate_step, infer_step

GREY, COLOUR = (5, 6, 1), (6, 5, 2)
BATCH, STEPS, LATENTS = 3, 3, 2


def create(attention: str, shape=GREY, **fields) -> DRAW:
  defaults = {"read_size": 2, "write_size": 3, "prior": "standard"}
  return DRAW(shape, attention, num_steps=STEPS, hidden_dim=4, latent_dim=LATENTS, **(defaults | fields))


def random_weights(model: DRAW, seed: int = 0):
  """Random weights everywhere, including learned initial states and biases."""
  blank = jnp.zeros((1, *model.image_shape))
  start = jax.eval_shape(model.init, jax.random.key(0), blank, jax.random.key(1))["params"]["weights"]
  generator = np.random.default_rng(seed)
  return jax.tree.map(lambda x: jnp.array(generator.normal(0, 0.5, x.shape), jnp.float32), start)


def random_images(shape=GREY, batch: int = BATCH) -> np.ndarray:
  return (np.random.default_rng(1).random((batch, *shape)) < 0.5).astype(np.float32)


def apply(model: DRAW, weights, *args, **kwargs):
  return jax.jit(lambda weights: model.apply({"params": {"weights": weights}}, *args, **kwargs))(weights)


def oracle_inputs(model: DRAW, weights):
  """Returns the arguments of `oracle.draw`: float64 weights, the initial state of one example, sizes or None."""
  initial = weights["initial"]
  states = (initial.canvas, initial.encoder.hidden, initial.encoder.cell, initial.decoder.hidden, initial.decoder.cell)
  others = {name: value for name, value in weights.items() if name != "initial"}
  sizes = (model.read_size, model.write_size) if model.attention == "filterbank" else None
  return oracle.float64(others), tuple(np.asarray(state, np.float64) for state in states), sizes


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
@pytest.mark.parametrize(
  ("attention", "shape", "layer_norm", "prior"),
  [
    ("none", GREY, False, "standard"),
    ("filterbank", GREY, False, "standard"),
    ("none", GREY, False, "learned"),
    ("filterbank", COLOUR, True, "learned"),
  ],
)
def test_terms_equal_a_loop_over_examples_and_steps(attention, shape, layer_norm, prior, backend):
  plan = choose_plan(0, "auto", "none", STEPS, backend)
  model = create(attention, shape, layer_norm=layer_norm, prior=prior, plan=plan)
  weights, images, key = random_weights(model), random_images(shape), jax.random.key(3)
  assert all(("gate_scale" in weights[cell]) == layer_norm for cell in ("encoder", "decoder"))
  terms = apply(model, weights, images, key)

  noise = np.asarray(jax.random.normal(jax.random.key(3), (STEPS, BATCH, LATENTS)), np.float64)
  loop_weights, initial, sizes = oracle_inputs(model, weights)
  canvases, kl, log_pz, log_qz = oracle.draw(loop_weights, initial, images, noise, sizes)

  close = partial(np.testing.assert_allclose, rtol=2e-3, atol=2e-3)
  close(terms.mean, oracle.sigmoid(canvases[:, -1]))
  close(terms.kl, kl)
  close(terms.log_pz, log_pz)
  close(terms.log_qz, log_qz)
  # The likelihood is that of the canvas itself: the replaced project had one more layer after it.
  close(terms.log_px, [oracle.bernoulli_log_prob(canvases[b, -1], images[b]) for b in range(BATCH)])


@pytest.mark.parametrize(("attention", "prior"), [("none", "learned"), ("filterbank", "standard")])
def test_a_drawing_from_the_prior_uses_a_new_latent_at_every_step(attention, prior):
  """The replaced project drew one z and used it T times."""
  model = create(attention, prior=prior)
  weights = random_weights(model)
  drawing = apply(model, weights, jax.random.key(5), BATCH, method="dream")
  z = np.asarray(jax.random.normal(jax.random.key(5), (STEPS, BATCH, LATENTS)), np.float64)
  loop_weights, initial, sizes = oracle_inputs(model, weights)
  canvases = oracle.draw(loop_weights, initial, None, z, sizes)  # [B, T, H, W, C]
  np.testing.assert_allclose(drawing.canvases, oracle.sigmoid(canvases).swapaxes(0, 1), rtol=1e-3, atol=1e-3)
  repeated = oracle.draw(loop_weights, initial, None, np.broadcast_to(z[:1], z.shape), sizes)
  assert np.abs(repeated - canvases)[:, -1].max() > 0.01
  samples = apply(model, weights, jax.random.key(5), BATCH, method="sample")
  np.testing.assert_array_equal(samples, drawing.canvases[-1])


@pytest.mark.parametrize("attention", ["none", "filterbank"])
def test_a_batch_equals_its_examples_one_by_one(attention):
  """The replaced project read every image through the window of the first."""
  model = create(attention)
  weights, images = random_weights(model), random_images()
  step = jax.jit(partial(infer_step, model.heads, jax.nn.sigmoid))
  noise = jax.random.normal(jax.random.key(0), (BATCH, LATENTS))
  generator = np.random.default_rng(2)
  states = jax.tree.map(lambda x: jnp.array(generator.normal(size=(BATCH, *x.shape)), jnp.float32), weights["initial"])
  together = step(images, weights, states, noise)
  for b in range(BATCH):
    one = jax.tree.map(lambda x, b=b: x[b : b + 1], states)
    alone = step(images[b : b + 1], weights, one, noise[b : b + 1])
    jax.tree.map(lambda x, y, b=b: np.testing.assert_allclose(x[b], y[0], rtol=1e-4, atol=1e-5), together, alone)
  if attention == "filterbank":
    read_window = together[1].read
    assert np.unique(np.asarray(read_window.center_x)).size == BATCH


def test_the_scan_equals_steps_called_one_by_one():
  model = create("filterbank")
  weights, images = random_weights(model), random_images()
  noise = jax.random.normal(jax.random.key(3), (STEPS, BATCH, LATENTS))
  state = jax.tree.map(lambda x: jnp.broadcast_to(x, (BATCH, *x.shape)), weights["initial"])
  step = jax.jit(partial(infer_step, model.heads, jax.nn.sigmoid))
  for drawn in noise:
    state, _ = step(images, weights, state, drawn)
  terms = apply(model, weights, images, jax.random.key(3))
  np.testing.assert_allclose(terms.mean, jax.nn.sigmoid(state.canvas), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("attention", "prior"), [("none", "standard"), ("filterbank", "learned")])
def test_every_weight_receives_a_gradient(attention, prior):
  """The replaced project cut the gradient of a window's center and stride."""
  model = create(attention, prior=prior)
  weights, images = random_weights(model), random_images()
  gradient = jax.jit(jax.grad(lambda w: apply(model, w, images, jax.random.key(3)).elbo.mean()))(weights)
  for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
    assert np.isfinite(leaf).all(), path
    assert np.abs(leaf).max() > 0, path
  if attention == "filterbank":
    for head in ("read_window", "write_window"):
      assert (np.abs(gradient["attention"][head]["bias"]) > 0).all()  # all five numbers of both windows


def test_windows_start_where_the_config_says():
  model = create("filterbank", (28, 28, 1), init_log_variance=0.7, init_log_stride=-1.1, init_write_gain=12.0)
  variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 28, 28, 1)), jax.random.key(1))
  drawing = apply(model, variables["params"]["weights"], jnp.zeros((2, 28, 28, 1)), jax.random.key(2), method="draw")
  for window, size in ((drawing.read, 2), (drawing.write, 3)):
    np.testing.assert_allclose(window.variance[0], np.exp(0.7), rtol=0.05)
    np.testing.assert_allclose(window.stride[0], 27 / (size - 1) * np.exp(-1.1), rtol=0.05)
    np.testing.assert_allclose(window.center_x[0], 13.5, atol=0.5)
  np.testing.assert_allclose(drawing.read.intensity[0], 1, rtol=0.05)
  np.testing.assert_allclose(drawing.write.intensity[0], 1 / 12, rtol=0.05)


@pytest.mark.parametrize("attention", ["none", "filterbank"])
def test_a_drawing_ends_in_the_reconstruction(attention):
  model = create(attention)
  weights, images = random_weights(model), random_images()
  drawing = apply(model, weights, images, jax.random.key(3), method="draw")
  terms = apply(model, weights, images, jax.random.key(3))
  assert drawing.canvases.shape == (STEPS, BATCH, *GREY)
  np.testing.assert_allclose(drawing.canvases[-1], terms.mean, rtol=1e-4, atol=1e-5)
  assert (drawing.read is None) == (drawing.write is None) == (attention == "none")


def test_a_learned_prior_starts_as_the_standard_one():
  images, key = random_images(), partial(jax.random.key, 3)
  standard, learned = (create("filterbank", prior=prior) for prior in ("standard", "learned"))
  variables = jax.jit(learned.init)(jax.random.key(0), images, jax.random.key(1))
  weights = {name: value for name, value in variables["params"]["weights"].items() if name != "prior"}
  expected = apply(standard, weights, images, key())
  terms = apply(learned, variables["params"]["weights"], images, key())
  jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), terms, expected)


def test_codes_in_units_of_a_learned_prior_are_decoded_as_they_were_drawn():
  model = create("filterbank", prior="learned")
  weights, images = random_weights(model), random_images()
  codes = apply(model, weights, images, method="encode")
  loop_weights, initial, sizes = oracle_inputs(model, weights)
  canvases, *_ = oracle.draw(loop_weights, initial, images, np.zeros((STEPS, BATCH, LATENTS)), sizes)
  decoded = apply(model, weights, codes, method="decode")
  np.testing.assert_allclose(decoded, oracle.sigmoid(canvases[:, -1]), rtol=1e-3, atol=1e-3)


def test_generating_leaves_the_encoder_alone():
  model = create("none")
  weights = random_weights(model)
  state = jax.tree.map(lambda x: jnp.broadcast_to(x, (1, *x.shape)), weights["initial"])
  after, _ = generate_step(model.heads, weights, state, jnp.ones((1, LATENTS)))
  assert after.encoder is state.encoder
  assert (np.asarray(after.canvas) != np.asarray(state.canvas)).any()
