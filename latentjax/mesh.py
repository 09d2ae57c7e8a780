"""All devices in a row, and what each of them holds: its rows of a batch, and a whole copy of everything else.

XLA partitions one program over them (GSPMD), so it means what it means on one device: the random numbers are the same,
a mean over the batch is that of the whole batch, and so are the statistics of batch norm.
"""

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

from latentjax.errors import UsageError

DATA = "data"


def create_mesh() -> Mesh | None:
  """Every device of every process, or None where there is only one: nothing has to be divided then."""
  count = jax.device_count()
  return jax.make_mesh((count,), (DATA,), axis_types=(AxisType.Auto,)) if count > 1 else None


def sharding(mesh: Mesh | None, *axes: str | None) -> Sharding:
  """How an array lies on the devices: the axis named DATA is divided, without any every device has all of it."""
  return SingleDeviceSharding(jax.local_devices()[0]) if mesh is None else NamedSharding(mesh, PartitionSpec(*axes))


def require_divisible(mesh: Mesh | None, key: str, batch_size: int) -> None:
  """Raises UsageError if the devices cannot have equal parts of a batch whose size the config key gives."""
  if mesh is not None and batch_size % mesh.size:
    raise UsageError(
      f"{key} = {batch_size} cannot be divided among {mesh.size} devices: choose a multiple of {mesh.size},"
      " or show JAX fewer devices"
    )


def divide(mesh: Mesh | None, images: jax.Array) -> jax.Array:
  """Images [B, H, W, C] inside jit, of which each device computes on its own rows.

  Where they cannot be divided equally, as the few images of a picture, every device computes on all of them.
  """
  if mesh is None or len(images) % mesh.size:
    return images
  return jax.lax.with_sharding_constraint(images, sharding(mesh, DATA))
