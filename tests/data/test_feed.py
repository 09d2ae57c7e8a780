"""Both feeds give every step the same batch, the one that the epoch's order says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from latentjax.data import feed
from latentjax.data.feed import DeviceFeed, HostFeed
from latentjax.data.preprocessing import gather

IMAGES = np.random.default_rng(0).integers(0, 256, (17, 3, 2, 1), np.uint8)
ORDER = np.random.default_rng(1).permutation(17).astype(np.int32)


@pytest.mark.parametrize("first", [0, 1, 3, 5])
@pytest.mark.parametrize("steps_per_call", [2, 5, 100])
@pytest.mark.parametrize("create", [DeviceFeed, HostFeed])
def test_every_step_sees_its_batch_of_the_order(create, steps_per_call, first):
  """Five batches of three, from any of them on; after the last there is nothing."""
  step, counts, shapes = first, [], set()
  for call in create(IMAGES, 3, steps_per_call, None).chunks(jnp.array(ORDER), first):
    for index in range(step, step + call.count):
      batch = gather(call.images, jnp.asarray(call.order), jnp.int32(index), 3)
      np.testing.assert_array_equal(batch, IMAGES[ORDER[3 * index : 3 * index + 3]])
    step += call.count
    counts.append(call.count)
    shapes.add(call.images.shape)
  assert step == 5
  assert all(count == min(steps_per_call, 5) for count in counts[:-1])
  assert len(shapes) <= 1  # or steps.train would be compiled again


@pytest.mark.parametrize(
  ("steps", "most", "counts"),
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
def test_calls_of_an_epoch_are_all_alike_or_all_but_the_last(placement, steps, most, counts):
  images = np.zeros((steps, 1, 1, 1), np.uint8)
  fed = feed.create_feed(placement, images, 1, most, None)
  assert fed.counts == counts
  taken = [call.count for call in fed.chunks(jnp.arange(steps), 0)]
  assert sum(taken) == steps
  assert set(taken) == counts
  assert set(taken[:-1]) <= {max(counts)}


def test_the_host_reads_one_call_ahead_and_no_further():
  seen = []

  class Watched:
    shape = IMAGES.shape

    def __len__(self):
      return len(IMAGES)

    def __getitem__(self, rows):
      seen.append(len(rows))
      return IMAGES[rows]

  calls = HostFeed(Watched(), 3, 1, None).chunks(jnp.array(ORDER), 0)
  next(calls)
  calls.close()  # waits for the thread
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
def test_auto_leaves_the_device_half_of_its_free_memory(monkeypatch, placement, stats, expected):
  device = jax.local_devices()[0]

  class Reporting:
    def memory_stats(self):
      return stats

  monkeypatch.setattr(feed.jax, "local_devices", lambda: [Reporting()])
  monkeypatch.setattr(feed, "sharding", lambda *_: jax.sharding.SingleDeviceSharding(device))
  assert isinstance(feed.create_feed(placement, IMAGES, 3, 2, None), expected)
