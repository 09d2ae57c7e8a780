"""Devices and processes: one program over all of them.

Every process runs the same program; process 0 does all I/O.
"""

import json
import os
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding
from ml_collections import ConfigDict

from latentjax.runtime.console import console
from latentjax.runtime.errors import RunError, UsageError

DATA_AXIS = "data"


def create_mesh() -> Mesh | None:
  """Every device of every process, or None where there is only one: nothing has to be divided then."""
  count = jax.device_count()
  return jax.make_mesh((count,), (DATA_AXIS,), axis_types=(AxisType.Auto,)) if count > 1 else None


def sharding(mesh: Mesh | None, *axes: str | None) -> Sharding:
  """How an array lies on the devices: the axis named DATA is divided, without any every device has all of it."""
  return SingleDeviceSharding(jax.local_devices()[0]) if mesh is None else NamedSharding(mesh, PartitionSpec(*axes))


def check_divisible(mesh: Mesh | None, key: str, batch_size: int) -> None:
  """Raises UsageError if the devices cannot have equal parts of a batch whose size the config key gives."""
  if mesh is not None and batch_size % mesh.size:
    raise UsageError(
      f"{key} = {batch_size} cannot be divided among {mesh.size} devices: choose a multiple of {mesh.size},"
      " or show JAX fewer devices"
    )


def shard_batch(mesh: Mesh | None, images: jax.Array) -> jax.Array:
  """Images [B, H, W, C] inside jit, of which each device computes on its own rows.

  Where they cannot be divided equally, as the few images of a picture, every device computes on all of them.
  """
  if mesh is None or len(images) % mesh.size:
    return images
  return jax.lax.with_sharding_constraint(images, sharding(mesh, DATA_AXIS))


CLUSTER = "auto"  # the coordinator's address, number and ranks of processes as the cluster tells them

SHUTDOWN_TIMEOUT = 60  # seconds: so long a process that failed alone waits for the others, and then ends them


def initialize(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
  """Meets the other processes of the run; before anything else touches a device. Only the first still prints.

  Args:
    coordinator: HOST:PORT where the first process listens, or CLUSTER, which needs no more.

  Raises:
    UsageError: something is missing, there is no cluster that JAX knows, the port cannot be had, or the numbers do not
      fit. If the others do not come within five minutes, JAX ends the process itself.
  """
  address = {} if coordinator == CLUSTER else {"coordinator_address": coordinator}
  host, _, port = (coordinator or "").rpartition(":")
  if address and (not host or None in (num_processes, process_id)):
    raise UsageError("several processes need --coordinator=HOST:PORT --num_processes=N --process_id=I, or =auto alone")
  if address:
    check_port(port, process_id)
  try:
    jax.distributed.initialize(
      **address, num_processes=num_processes, process_id=process_id, shutdown_timeout_seconds=SHUTDOWN_TIMEOUT
    )
  except ValueError as error:
    missing = "JAX finds no cluster here: give HOST:PORT, --num_processes and --process_id"
    raise UsageError(f"--coordinator={coordinator}: {missing if coordinator == CLUSTER else error}") from None
  console.quiet = jax.process_index() > 0


def check_port(port: str, process_id: int) -> None:
  """Raises UsageError if the first process cannot listen at a port: JAX would end with a segmentation fault."""
  if not (port.isascii() and port.isdecimal() and 0 < int(port) < 2**16):
    raise UsageError(f"--coordinator: the port must be a number from 1 to 65535, not {port!r}")
  if process_id == 0:
    try:
      socket.create_server(("", int(port))).close()
    except OSError as error:
      reason = os.strerror(error.errno)
      raise UsageError(f"--coordinator: port {port} cannot be had here ({reason}): choose another") from None


def on_process_zero(call: Callable[[], Any]) -> Any:
  """What `call` returns or raises in the first, or primary, process, in all of them; the others do not call it.

  Args:
    call: returns what JSON can say; nobody waits for others in it.

  Raises:
    UsageError, RunError: as it does.
  """
  if jax.process_count() == 1:
    return call()
  outcome, message = None, ""
  if jax.process_index() == 0:
    try:
      outcome = {"value": call()}
    except (UsageError, RunError) as error:
      outcome = {"error": str(error), "usage": isinstance(error, UsageError)}
    message = json.dumps(outcome)
  length = int(multihost_utils.broadcast_one_to_all(np.int32(len(message.encode()))))
  text = np.frombuffer(message.encode().ljust(length), np.uint8)
  outcome = json.loads(bytes(multihost_utils.broadcast_one_to_all(text)))
  if "error" in outcome:
    raise (UsageError if outcome["usage"] else RunError)(outcome["error"])
  return outcome["value"]


def broadcast(tree: Any) -> Any:
  """The first process's arrays, in all of them."""
  return tree if jax.process_count() == 1 else multihost_utils.broadcast_one_to_all(tree)


def all_max(number: int) -> int:
  """The largest of the processes' numbers."""
  return number if jax.process_count() == 1 else int(multihost_utils.process_allgather(np.int32(number)).max())


def first_shard(tree: Any) -> Any:
  """Arrays of which every device has a whole copy, as this process's first device has them."""
  return jax.tree.map(lambda x: x.addressable_data(0) if isinstance(x, jax.Array) else x, tree)


def jit_on(mesh: Mesh | None) -> Callable:
  """`jax.jit`; on a mesh every device has the whole of what comes back."""
  return jax.jit if mesh is None else partial(jax.jit, out_shardings=sharding(mesh))


def over_seeds(config: ConfigDict, function: Callable, in_axes, out_axes=0) -> Callable:
  """The function for all seeds at once; a seed alone has no axis for it."""
  return function if config.train.num_seeds == 1 else jax.vmap(function, in_axes, out_axes)
