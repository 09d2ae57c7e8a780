"""Batches: both feeds give every step the batch of the epoch's order, and preprocessing on the device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from latentjax.data import feed
from latentjax.data.feed import DeviceFeed, HostFeed
from latentjax.data.preprocessing import binarize, gather, to_pixels
from latentjax.runtime.jax_settings import pinned_settings

IMAGES = np.random.default_rng(0).integers(0, 256, (17, 3, 2, 1), np.uint8)
ORDER = np.random.default_rng(1).permutation(17).astype(np.int32)


@pytest.mark.parametrize("first", [0, 1, 3, 5])
@pytest.mark.parametrize("steps_per_chunk", [2, 5, 100])
@pytest.mark.parametrize("create", [DeviceFeed, HostFeed])
def test_every_step_sees_its_batch(create, steps_per_chunk, first):
  """Five batches of three, from any of them on."""
  step, counts, shapes = first, [], set()
  for chunk in create(IMAGES, 3, steps_per_chunk, None).chunks(jnp.array(ORDER), first):
    for index in range(step, step + chunk.count):
      batch = gather(chunk.images, jnp.asarray(chunk.order), jnp.int32(index), 3)
      np.testing.assert_array_equal(batch, IMAGES[ORDER[3 * index : 3 * index + 3]])
    step += chunk.count
    counts.append(chunk.count)
    shapes.add(chunk.images.shape)
  assert step == 5
  assert all(count == min(steps_per_chunk, 5) for count in counts[:-1])
  assert len(shapes) <= 1  # or `train` would be compiled again


@pytest.mark.parametrize(
  ("steps", "max_steps", "counts"),
  [
    (390, 50, {39}),
    (500, 50, {50}),
    (3, 50, {3}),
    (6, 1, {1}),
    (389, 50, {49, 46}),
    (53, 50, {27, 26}),
    (34, 20, {17}),
  ],
)
@pytest.mark.parametrize("placement", ["device", "host"])
def test_all_chunks_but_the_last_have_one_length(placement, steps, max_steps, counts):
  images = np.zeros((steps, 1, 1, 1), np.uint8)
  fed = feed.create_feed(placement, images, 1, max_steps, None)
  assert fed.counts == counts
  taken = [chunk.count for chunk in fed.chunks(jnp.arange(steps), 0)]
  assert sum(taken) == steps
  assert set(taken) == counts
  assert set(taken[:-1]) <= {max(counts)}


def test_the_callers_settings_of_jax_do_not_reach_the_thread_that_loads():
  guard = jax.config.values["jax_transfer_guard"]
  jax.config.update("jax_transfer_guard", "disallow")
  try:
    with pinned_settings():
      assert sum(chunk.count for chunk in HostFeed(IMAGES, 3, 2, None).chunks(ORDER, 0)) == 5
  finally:
    jax.config.update("jax_transfer_guard", guard)


def test_host_feed_loads_one_chunk_ahead():
  seen = []

  class Watched:
    shape = IMAGES.shape

    def __len__(self):
      return len(IMAGES)

    def __getitem__(self, rows):
      seen.append(len(rows))
      return IMAGES[rows]

  chunks = HostFeed(Watched(), 3, 1, None).chunks(jnp.array(ORDER), 0)
  next(chunks)
  chunks.close()  # waits for the thread
  assert len(seen) == 2


@pytest.mark.parametrize(
  ("placement", "stats", "expected"),
  [
    ("auto", None, DeviceFeed),
    ("auto", {"bytes_limit": 1000, "bytes_in_use": 1000 - 2 * IMAGES.nbytes}, DeviceFeed),
    ("auto", {"bytes_limit": 1000, "bytes_in_use": 1001 - 2 * IMAGES.nbytes}, HostFeed),
    ("device", {"bytes_limit": 0, "bytes_in_use": 0}, DeviceFeed),
    ("host", None, HostFeed),
  ],
)
def test_auto_placement_leaves_half_of_the_free_memory(monkeypatch, placement, stats, expected):
  device = jax.local_devices()[0]

  class Reporting:
    def memory_stats(self):
      return stats

  monkeypatch.setattr(feed.jax, "local_devices", lambda: [Reporting()])
  monkeypatch.setattr(feed, "sharding", lambda *_: jax.sharding.SingleDeviceSharding(device))
  assert isinstance(feed.create_feed(placement, IMAGES, 3, 2, None), expected)


def test_binarized_pixels_are_zero_or_one_with_the_grey_value_as_mean():
  grey = np.array([0, 51, 128, 255], np.uint8).reshape(1, 2, 2, 1)
  drawn = np.asarray(binarize(jax.random.key(0), jnp.array(np.repeat(grey, 20_000, axis=0))))
  assert set(np.unique(drawn)) == {0.0, 1.0}
  np.testing.assert_allclose(drawn.mean(0).ravel(), np.array([0, 51, 128, 255]) / 255, atol=0.015)
  assert drawn[:, 0, 0].max() == 0  # black stays black and white stays white
  assert drawn[:, 1, 1].min() == 1


def test_binarized_pixels_are_independent():
  drawn = np.asarray(binarize(jax.random.key(1), jnp.full((20_000, 2, 3, 1), 128, jnp.uint8)))
  np.testing.assert_allclose(np.corrcoef(drawn.reshape(-1, 6).T), np.eye(6), atol=0.03)


def test_pixels_span_zero_to_one():
  np.testing.assert_allclose(to_pixels(np.array([0, 51, 255], np.uint8)), [0.0, 0.2, 1.0], rtol=1e-6)


@pytest.mark.parametrize(
  ("shape", "order"), [((6, 1, 1), ORDER), ((2, 3, 1, 1), np.int32(0)), ((6, 1, 1, 1), ORDER[None])]
)
def test_gather_rejects_wrong_shapes(shape, order):
  with pytest.raises(AssertionError, match="rank"):
    gather(jnp.zeros(shape, jnp.uint8), jnp.asarray(order), jnp.int32(0), 2)
