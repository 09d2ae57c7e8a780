"""Devices and processes: every process runs the same program, and process 0 does all I/O."""

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
CLUSTER = "auto"  # the cluster's scheduler provides the coordinator's address, the number of processes and their ranks


def create_mesh() -> Mesh | None:
  """Returns the mesh of all devices of all processes, or None if there is only one device."""
  count = jax.device_count()
  return jax.make_mesh((count,), (DATA_AXIS,), axis_types=(AxisType.Auto,)) if count > 1 else None


def sharding(mesh: Mesh | None, *axes: str | None) -> Sharding:
  """Returns a sharding that divides the axis named DATA_AXIS; without one every device has the whole array."""
  return SingleDeviceSharding(jax.local_devices()[0]) if mesh is None else NamedSharding(mesh, PartitionSpec(*axes))


def check_divisible(mesh: Mesh | None, key: str, batch_size: int) -> None:
  """Raises UsageError if the batch size, set by a config key, is not a multiple of the number of devices."""
  if mesh is not None and batch_size % mesh.size:
    raise UsageError(
      f"{key} = {batch_size} cannot be divided among {mesh.size} devices. Choose a multiple, or use fewer devices."
    )


def shard_batch(mesh: Mesh | None, images: jax.Array) -> jax.Array:
  """Constrains images [B, H, W, C] inside jit to be divided among the devices, if they divide evenly."""
  if mesh is None or len(images) % mesh.size:
    return images
  return jax.lax.with_sharding_constraint(images, sharding(mesh, DATA_AXIS))


def initialize(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
  """Connects the processes of a run, before anything else touches a device. Only process 0 prints from then on.

  Process 0 listens at HOST:PORT, the coordinator; CLUSTER needs no other argument. JAX ends the process if the others
  do not connect within five minutes. Raises UsageError for arguments that are missing or cannot be used.
  """
  address = None if coordinator == CLUSTER else coordinator
  if coordinator != CLUSTER:
    host, _, port = (coordinator or "").rpartition(":")
    if not host or None in (num_processes, process_id):
      raise UsageError(
        "Several processes need --coordinator=HOST:PORT --num_processes=N --process_id=I, or --coordinator=auto."
      )
    _check_port(port, process_id)
  shutdown_timeout = 60  # seconds that a process which failed alone waits for the others before it ends them
  try:
    jax.distributed.initialize(address, num_processes, process_id, shutdown_timeout_seconds=shutdown_timeout)
  except ValueError as error:
    missing = "JAX finds no cluster here. Give HOST:PORT, --num_processes and --process_id."
    raise UsageError(f"--coordinator={coordinator}: {missing if coordinator == CLUSTER else error}") from None
  console.quiet = jax.process_index() > 0


def _check_port(port: str, process_id: int) -> None:
  """Raises UsageError if process 0 cannot listen on a port; JAX would end with a segmentation fault."""
  if not (port.isascii() and port.isdecimal() and 0 < int(port) < 2**16):
    raise UsageError(f"--coordinator: the port must be a number from 1 to 65535, not {port!r}.")
  if process_id == 0:
    try:
      socket.create_server(("", int(port))).close()
    except OSError as error:
      reason = os.strerror(error.errno)
      raise UsageError(f"--coordinator: cannot listen on port {port} ({reason}). Choose another port.") from None


def on_process_zero(call: Callable[[], Any]) -> Any:
  """Calls a function in process 0; all processes get its result, a JSON value, or its UsageError or RunError."""
  if jax.process_count() == 1:
    return call()
  message = b""
  if jax.process_index() == 0:
    try:
      outcome = {"value": call()}
    except (UsageError, RunError) as error:
      outcome = {"error": str(error), "usage": isinstance(error, UsageError)}
    message = json.dumps(outcome).encode()
  length = int(multihost_utils.broadcast_one_to_all(np.int32(len(message))))
  text = np.frombuffer(message.ljust(length), np.uint8)
  outcome = json.loads(bytes(multihost_utils.broadcast_one_to_all(text)))
  if "error" in outcome:
    raise (UsageError if outcome["usage"] else RunError)(outcome["error"])
  return outcome["value"]


def broadcast(tree: Any) -> Any:
  """Returns the arrays of process 0 in all processes."""
  return tree if jax.process_count() == 1 else multihost_utils.broadcast_one_to_all(tree)


def all_max(number: int) -> int:
  """Returns the largest of the processes' numbers."""
  return int(multihost_utils.process_allgather(np.int32(number)).max())


def first_shard(tree: Any) -> Any:
  """Returns the first local device's copies of replicated arrays."""
  return jax.tree.map(lambda x: x.addressable_data(0) if isinstance(x, jax.Array) else x, tree)


def jit_on(mesh: Mesh | None) -> Callable:
  """Returns `jax.jit`, with replicated outputs on a mesh."""
  return jax.jit if mesh is None else partial(jax.jit, out_shardings=sharding(mesh))


def over_seeds(config: ConfigDict, function: Callable, in_axes, out_axes=0) -> Callable:
  """Returns the function vectorized over seeds; a single seed has no extra axis."""
  return function if config.train.num_seeds == 1 else jax.vmap(function, in_axes, out_axes)
