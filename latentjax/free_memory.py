"""How much memory is left."""

import jax
import psutil


def of_host() -> int:
  """Bytes that the host could still give."""
  return psutil.virtual_memory().available


def of_device() -> int | None:
  """Bytes left on a device of this process; None on a CPU, whose memory is the host's."""
  stats = jax.local_devices()[0].memory_stats()
  return stats["bytes_limit"] - stats["bytes_in_use"] if stats else None
