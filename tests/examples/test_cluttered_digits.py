"""The example of attention alone: its canvases against a plain loop, and that it learns, resumes and reports."""

import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from examples import cluttered_digits
from examples.cluttered_digits import evaluate, get_config, initial_state, look, loss, make_canvases, train_steps
from latentjax.runtime.errors import RunError

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 6, 6, 1), np.uint8)
LABELS = np.arange(20) % 3


def tiny(**changes):
  config = get_config()
  config.data.update({"canvas_size": 14, "num_pieces": 2, "piece_size": 2})
  config.model.update({"num_glimpses": 2, "window_size": 4, "hidden_dim": 8})
  config.train.update({"batch_size": 4, "steps": 6, "report_steps": 3, **changes})
  return config


def test_a_canvas_is_the_clipped_sum_of_an_image_and_pieces():
  """Positions come from the same keys; NumPy crops, adds and clips."""
  config, key, targets = tiny(), jax.random.key(0), np.array([3, 17, 5])
  canvases = jax.jit(partial(make_canvases, config.data))(key, jnp.asarray(IMAGES), jnp.asarray(targets))
  assert canvases.shape == (3, 14, 14, 1)
  clipped = 0
  for canvas, own, target in zip(canvases, jax.random.split(jax.random.clone(key), 3), targets, strict=True):
    keys = jax.random.split(own, 4)
    row, column = jax.random.randint(keys[0], (2,), 0, 9)
    expected = np.zeros((14, 14, 1))
    expected[row : row + 6, column : column + 6] += IMAGES[target]
    others = jax.random.randint(keys[1], (2,), 0, 20)
    crops, corners = jax.random.randint(keys[2], (2, 2), 0, 5), jax.random.randint(keys[3], (2, 2), 0, 13)
    for other, (top, left), (row, column) in zip(others, crops, corners, strict=True):
      expected[row : row + 2, column : column + 2] += IMAGES[other, top : top + 2, left : left + 2]
    clipped += (expected > 255).sum()
    np.testing.assert_allclose(canvas, np.minimum(expected, 255) / 255, rtol=1e-6)
  assert clipped > 0


def test_the_first_window_spans_the_canvas_and_every_weight_learns():
  config = tiny()
  weights = initial_state(config)["weights"]
  canvases = jax.random.uniform(jax.random.key(1), (4, 14, 14, 1))
  logits, windows = jax.jit(partial(look, config.model))(weights, canvases)
  assert logits.shape == (2, 4, 10)
  assert windows.stride.shape == (2, 4)
  np.testing.assert_allclose(windows.center_x[0], 6.5, rtol=1e-6)
  np.testing.assert_allclose(3 * windows.stride[0], 13, rtol=1e-6)
  labels = jnp.array([0, 1, 2, 3])
  gradient = jax.jit(jax.grad(lambda weights: loss(weights, config.model, canvases, labels)[0]))(weights)
  for path, leaf in jax.tree.leaves_with_path(gradient):
    assert 0 < jnp.abs(leaf).max() < jnp.inf, jax.tree_util.keystr(path)
  assert (gradient["window"]["bias"] != 0).all()  # all five parameters of the window


def test_one_class_of_many_is_soon_learnt():
  """Bright and dark images: the mean loss of the last 20 steps is a third of the first 20's."""
  images = jnp.asarray(np.where(np.arange(20)[:, None, None, None] % 2, 255, 60), jnp.uint8)
  images = jnp.broadcast_to(images, IMAGES.shape)
  config = tiny(steps=200, learning_rate=1e-2, batch_size=8)
  train = jax.jit(partial(train_steps, config))
  state, before = train(initial_state(config), images, jnp.arange(20) % 2, 20)
  state, _ = train(state, images, jnp.arange(20) % 2, 160)
  _, after = train(state, images, jnp.arange(20) % 2, 20)
  assert after[0] < before[0] / 3
  rates = jax.jit(partial(evaluate, config))(state["weights"], images, jnp.arange(20) % 2)
  assert rates.shape == (2,)
  assert rates[-1] < 0.3


def test_it_resumes_and_says_what_is_wrong(tmp_path, monkeypatch, capsys):
  splits = dict.fromkeys(("train", "validation", "test"), IMAGES)
  np.savez(tmp_path / "mine.npz", **splits, **{f"{name}_labels": LABELS for name in splits})
  np.savez(tmp_path / "bare.npz", **splits)
  config = tiny()
  config.data.name = str(tmp_path / "mine.npz")
  cluttered_digits.run(config, tmp_path / "whole")
  config.train.steps, schedule = 3, cluttered_digits.create_optimizer
  monkeypatch.setattr(cluttered_digits, "create_optimizer", lambda train: schedule(tiny().train))  # of 6 steps
  cluttered_digits.run(config, tmp_path / "half")
  config.train.steps = 6
  cluttered_digits.run(config, tmp_path / "half")
  with np.load(tmp_path / "whole/state.npz") as whole, np.load(tmp_path / "half/state.npz") as half:
    for name in whole.files:
      np.testing.assert_array_equal(whole[name], half[name])
  assert (tmp_path / "half/glimpses.png").stat().st_size > 10_000
  assert "test error after each glimpse:" in capsys.readouterr().out

  config.data.num_pieces += 1
  with pytest.raises(RunError, match=r"half/config.json has another config. Choose another --workdir"):
    cluttered_digits.run(config, tmp_path / "half")

  config.data.name = str(tmp_path / "bare.npz")
  monkeypatch.setattr(cluttered_digits, "CONFIG", type("Flag", (), {"value": config}), raising=False)
  monkeypatch.setattr(cluttered_digits, "WORKDIR", type("Flag", (), {"value": str(tmp_path)}), raising=False)
  with pytest.raises(SystemExit, match=r"^error: data.name = .*bare.npz has no labels"):
    cluttered_digits.main(sys.argv[:1])
  with pytest.raises(SystemExit, match=r"^error: 'left' is not a flag"):
    cluttered_digits.main(["", "left"])
