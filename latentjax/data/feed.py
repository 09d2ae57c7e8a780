"""Training images on their way to the devices: all of them once, or the batches of every call one call ahead.

Shapes: M images in the set, S steps of a call, B batch, H W C image. Both ways give the same batches in the same order.
Each number of steps that a call may have is a program of its own, so all calls of an epoch have S, but for the last.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, pairwise
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from latentjax.runtime import distributed
from latentjax.runtime.cost import free_device_bytes
from latentjax.runtime.distributed import DATA_AXIS, sharding


class Chunk(NamedTuple):
  """What one call of `steps.train` or `steps.add_batch_statistics` works on.

  Attributes:
    count: its steps, at most S.
    images, order: as `batches.gather` takes them.
  """

  count: int
  images: jax.Array
  order: jax.Array | np.ndarray


class BatchFeed:
  """What both ways have in common.

  Args:
    num_images: M.
    batch_size, steps_per_call: B and S, which is not above what an epoch has.
  """

  def __init__(self, num_images: int, batch_size: int, steps_per_call: int):
    self._batch_size, self._steps = batch_size, num_images // batch_size
    self._steps_per_call = steps_per_call

  @property
  def counts(self) -> set[int]:
    """Of how many steps the calls of a whole epoch are: one number or two."""
    return {self._steps_per_call, self._steps % self._steps_per_call} - {0}


class DeviceFeed(BatchFeed):
  """All images lie on every device.

  Args:
    images: [M, H, W, C] uint8.
    batch_size, steps_per_call: B and S.
    mesh: as `create_mesh` makes it.
  """

  def __init__(self, images: np.ndarray, batch_size: int, steps_per_call: int, mesh: Mesh | None):
    super().__init__(len(images), batch_size, steps_per_call)
    self._images = jax.make_array_from_callback(images.shape, sharding(mesh), lambda index: images[index])

  def chunks(self, order: jax.Array, first: int) -> Iterator[Chunk]:
    """The calls of an epoch from its step `first` on, whose images are in the given order [M]."""
    for start in range(first, self._steps, self._steps_per_call):
      yield Chunk(min(self._steps_per_call, self._steps - start), self._images, order)


class HostFeed(BatchFeed):
  """Images stay in the host's memory; of a call's batches every device has its own rows.

  A thread gathers and sends the next call's batches while the devices work on this one's, so that up to three calls'
  lie there for a moment. A process gathers only what its own devices need. Arguments as of `DeviceFeed`.
  """

  def __init__(self, images: np.ndarray, batch_size: int, steps_per_call: int, mesh: Mesh | None):
    super().__init__(len(images), batch_size, steps_per_call)
    self._images = images
    equal = mesh is None or batch_size % mesh.size == 0  # else every device has all rows, as in `mesh.divide`
    self._sharding = sharding(mesh, None, DATA_AXIS) if equal else sharding(mesh)

  def chunks(self, order: jax.Array, first: int) -> Iterator[Chunk]:
    """As `DeviceFeed.calls`."""
    rows = np.asarray(order)[: self._steps * self._batch_size].reshape(self._steps, self._batch_size)
    starts = range(first, self._steps, self._steps_per_call)
    with ThreadPoolExecutor(max_workers=1) as thread:
      loading = (thread.submit(self._load, rows, start) for start in starts)
      for call, _ in pairwise(chain(loading, [None])):  # by then the next one is being loaded
        yield call.result()

  def _load(self, rows: np.ndarray, start: int) -> Chunk:
    rows = rows[start : start + self._steps_per_call]
    count = len(rows)
    rows = np.pad(rows, [(0, self._steps_per_call - count), (0, 0)], mode="edge")  # [S, B]: one shape for every call
    shape = (*rows.shape, *self._images.shape[1:])
    images = jax.make_array_from_callback(shape, self._sharding, lambda index: self._images[rows[index[:2]]])
    return Chunk(count, images, np.int32(start))


def create_feed(placement: str, images: np.ndarray, batch_size: int, most_steps: int, mesh: Mesh | None) -> BatchFeed:
  """The feed for a place: "device", "host", or "auto", the device if they take up to half of its free memory.

  Args:
    most_steps: that a call may have.
  """
  if placement == "auto":  # which all processes must take for the same place
    placement = "device" if distributed.on_process_zero(lambda: fits_on_device(images.nbytes)) else "host"
  feed = {"device": DeviceFeed, "host": HostFeed}[placement]
  return feed(images, batch_size, steps_per_chunk(len(images) // batch_size, most_steps), mesh)


def steps_per_chunk(steps: int, most: int) -> int:
  """How many of an epoch's steps a call has so that all calls are alike, or else all but the last.

  Args:
    most: that it may have; calls that are alike have more than half of it, or there would be too many.
  """
  most = min(steps, most)
  alike = (count for count in range(most, most // 2, -1) if steps % count == 0)
  return next(alike, -(-steps // -(-steps // most)))


def fits_on_device(size: int) -> bool:
  """Whether so many bytes are at most half of what a device has free; a CPU has no other place for them."""
  free = free_device_bytes()
  return free is None or size <= free / 2
