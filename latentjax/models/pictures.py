"""What a model has to show besides samples and reconstructions, as arrays; `workdir/plots.py` makes files of them.

Shapes: M images, T steps, H W C image. Pixels in [0, 1].
"""

from typing import Any

import jax
from flax import struct


@struct.dataclass
class Animation:
  """M drawings side by side, a frame for each step.

  Attributes:
    canvases: [T, M, H, W, C] below.
    images: [M, H, W, C] what is drawn, above; None for drawings from the prior.
    read, write: windows with fields [T, M] in pixels, see `draw.attention.Window`; None where there are none.
    read_size, write_size: N of the windows.
  """

  canvases: jax.Array
  images: jax.Array | None
  read: Any | None
  write: Any | None
  read_size: int = struct.field(pytree_node=False, default=1)
  write_size: int = struct.field(pytree_node=False, default=1)


@struct.dataclass
class Grid:
  """Images [R, M, H, W, C], a row for each of R."""

  images: jax.Array


@struct.dataclass
class Blocks:
  """Square grids side by side, each under its title.

  Attributes:
    images: [S, R, R, H, W, C]. titles: S of them.
  """

  images: jax.Array
  titles: tuple[str, ...] = struct.field(pytree_node=False)


Picture = Animation | Grid | Blocks
