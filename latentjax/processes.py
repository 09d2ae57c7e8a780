"""Several processes that are one run: all do the same, each with its devices' part, and the first reads and writes.

They stay in step because whatever could differ between them, a file or a signal, one of them decides for all.
"""

import json
import os
import socket
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from latentjax.console import console
from latentjax.errors import RunError, UsageError

CLUSTER = "auto"  # the coordinator's address, number and ranks of processes as the cluster tells them
LEAVING = 60  # seconds: so long a process that failed alone waits for the others, and then ends them


def join(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
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
    require_port(port, process_id)
  try:
    jax.distributed.initialize(
      **address, num_processes=num_processes, process_id=process_id, shutdown_timeout_seconds=LEAVING
    )
  except ValueError as error:
    missing = "JAX finds no cluster here: give HOST:PORT, --num_processes and --process_id"
    raise UsageError(f"--coordinator={coordinator}: {missing if coordinator == CLUSTER else error}") from None
  console.quiet = jax.process_index() > 0


def require_port(port: str, process_id: int) -> None:
  """Raises UsageError if the first process cannot listen at a port: JAX would end with a segmentation fault."""
  if not (port.isascii() and port.isdecimal() and 0 < int(port) < 2**16):
    raise UsageError(f"--coordinator: the port must be a number from 1 to 65535, not {port!r}")
  if process_id == 0:
    try:
      socket.create_server(("", int(port))).close()
    except OSError as error:
      reason = os.strerror(error.errno)
      raise UsageError(f"--coordinator: port {port} cannot be had here ({reason}): choose another") from None


def on_primary(call: Callable[[], Any]) -> Any:
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


def maximum(number: int) -> int:
  """The largest of the processes' numbers."""
  return number if jax.process_count() == 1 else int(multihost_utils.process_allgather(np.int32(number)).max())


def local(tree: Any) -> Any:
  """Arrays of which every device has a whole copy, as this process's first device has them."""
  return jax.tree.map(lambda x: x.addressable_data(0) if isinstance(x, jax.Array) else x, tree)
