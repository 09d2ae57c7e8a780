"""Feeds of training images to the devices: all images at once, or the batches of a chunk of steps ahead of time.

Shapes: M images in the set, S steps of a chunk, B batch, H W C image. Both feeds give the same batches in the same
order. Each chunk length compiles a separate program, so all chunks of an epoch but the last have S steps.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, pairwise
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from latentjax.runtime import distributed
from latentjax.runtime.cost import free_bytes
from latentjax.runtime.distributed import DATA_AXIS, sharding
from latentjax.runtime.jax_settings import pinned_settings


class Chunk(NamedTuple):
  """The input of one call of `TrainFns.train` or `TrainFns.add_batch_statistics`; see `preprocessing.gather`."""

  count: int  # number of steps, at most S
  images: jax.Array
  order: jax.Array | np.ndarray


class BatchFeed:
  """Base of both feeds of images [M, H, W, C], uint8; S is at most the number of steps of an epoch."""

  def __init__(self, images: np.ndarray, batch_size: int, steps_per_chunk: int):
    self._images, self._batch_size, self._steps_per_chunk = images, batch_size, steps_per_chunk
    self._steps = len(images) // batch_size

  @property
  def counts(self) -> set[int]:
    """The one or two lengths of the chunks of an epoch."""
    return {self._steps_per_chunk, self._steps % self._steps_per_chunk} - {0}


class DeviceFeed(BatchFeed):
  """Keeps all images on every device."""

  def __init__(self, images: np.ndarray, batch_size: int, steps_per_chunk: int, mesh: Mesh | None):
    super().__init__(images, batch_size, steps_per_chunk)
    self._images = jax.make_array_from_callback(images.shape, sharding(mesh), lambda index: images[index])

  def chunks(self, order: jax.Array, first: int) -> Iterator[Chunk]:
    """Yields the chunks of an epoch in the given order [M], from step `first` on."""
    for start in range(first, self._steps, self._steps_per_chunk):
      yield Chunk(min(self._steps_per_chunk, self._steps - start), self._images, order)


class HostFeed(BatchFeed):
  """Keeps images in the host's memory and gives every device its own rows of the batches.

  A thread gathers and sends the next chunk while the devices work on this one, so up to three chunks are on a device
  for a moment. A process gathers only the rows of its own devices.
  """

  def __init__(self, images: np.ndarray, batch_size: int, steps_per_chunk: int, mesh: Mesh | None):
    super().__init__(images, batch_size, steps_per_chunk)
    divisible = mesh is None or batch_size % mesh.size == 0  # else every device has all rows, as in `shard_batch`
    self._sharding = sharding(mesh, None, DATA_AXIS) if divisible else sharding(mesh)

  def chunks(self, order: jax.Array, first: int) -> Iterator[Chunk]:
    """Yields the chunks of an epoch in the given order [M], from step `first` on."""
    rows = np.asarray(order)[: self._steps * self._batch_size].reshape(self._steps, self._batch_size)
    starts = range(first, self._steps, self._steps_per_chunk)
    with ThreadPoolExecutor(max_workers=1) as thread:
      loading = (thread.submit(self._load, rows, start) for start in starts)
      for chunk, _ in pairwise(chain(loading, [None])):  # submits the next chunk before it waits for this one
        yield chunk.result()

  @pinned_settings()  # those of the main thread are not this one's
  def _load(self, rows: np.ndarray, start: int) -> Chunk:
    rows = rows[start : start + self._steps_per_chunk]
    count = len(rows)
    rows = np.pad(rows, [(0, self._steps_per_chunk - count), (0, 0)], mode="edge")  # [S, B]: one shape for all chunks
    shape = (*rows.shape, *self._images.shape[1:])
    images = jax.make_array_from_callback(shape, self._sharding, lambda index: self._images[rows[index[:2]]])
    return Chunk(count, images, np.int32(start))


def create_feed(placement: str, images: np.ndarray, batch_size: int, max_steps: int, mesh: Mesh | None) -> BatchFeed:
  """Returns the feed of a placement: "device", "host", or "auto", see `config.data`; S is at most `max_steps`."""
  if placement == "auto":  # one decision for all processes
    fits = distributed.on_process_zero(lambda: images.nbytes <= free_bytes() / 2)
    placement = "device" if fits else "host"
  feed = {"device": DeviceFeed, "host": HostFeed}[placement]
  return feed(images, batch_size, _steps_per_chunk(len(images) // batch_size, max_steps), mesh)


def _steps_per_chunk(steps: int, max_steps: int) -> int:
  """Returns the largest S that divides the steps of an epoch, if above half of the largest allowed; else a near one."""
  largest = min(steps, max_steps)
  divisors = (count for count in range(largest, largest // 2, -1) if steps % count == 0)
  return next(divisors, -(-steps // -(-steps // largest)))
