"""Linear layers as pure functions, residual networks and convolutions.

Shapes: B batch, H W positions, I inputs, O outputs, U residual stream.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

Layer = dict[str, jax.Array]  # kernel [I, O], bias [O]


def init_linear(key: jax.Array, kernel_init: Callable, inputs: int, outputs: int) -> Layer:
  """Creates a layer with zero bias; `kernel_init` maps (key, shape) to an array."""
  return layer_from_kernel(kernel_init(key, (inputs, outputs)))


def layer_from_kernel(kernel: jax.Array) -> Layer:
  """Creates a layer with zero bias."""
  return {"kernel": kernel, "bias": jnp.zeros(kernel.shape[-1])}


def linear(layer: Layer, x: jax.Array) -> jax.Array:
  """Returns x W + b, [B, O], for x [B, I]."""
  return x @ layer["kernel"] + layer["bias"][None]


def merge_layers(layers: Mapping[str, Layer]) -> Layer:
  """Returns one layer whose outputs are those of all layers, concatenated in order."""
  return {name: jnp.concatenate([layer[name] for layer in layers.values()], axis=-1) for name in ("kernel", "bias")}


def output_sizes(layers: Mapping[str, Layer]) -> dict[str, int]:
  """Returns O of each layer by name."""
  return {name: layer["bias"].size for name, layer in layers.items()}


def split_by_size(x: jax.Array, sizes: Mapping[str, int], axis: int = -1) -> dict[str, jax.Array]:
  """Splits x into named consecutive slices of these sizes: outputs of merged layers, or rows of a kernel."""
  ends = itertools.accumulate(sizes.values())
  return dict(zip(sizes, jnp.split(x, list(ends)[:-1], axis=axis), strict=True))


class ResidualBlock(nn.Module):
  """x + W_2 f(W_1 norm(x) + b_1) + b_2 for x [B, U], with layer norm, which needs no batch statistics."""

  width: int  # of the hidden layer
  activation: Callable[[jax.Array], jax.Array]  # f

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    hidden = self.activation(nn.Dense(self.width)(nn.LayerNorm()(x)))
    return x + nn.Dense(x.shape[-1])(hidden)


class ResidualMLP(nn.Module):
  """A dense layer to U, residual blocks, layer norm and activation: [B, I] -> [B, U]."""

  stream: int  # U
  widths: Sequence[int]  # hidden width of each block
  activation: Callable[[jax.Array], jax.Array]

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    x = nn.Dense(self.stream)(x)
    for width in self.widths:
      x = ResidualBlock(width, self.activation)(x)
    return self.activation(nn.LayerNorm()(x))


class Conv(nn.Module):
  """Convolution with zero padding, [B, H, W, I] -> [B, H, W, O]; with `size` 1 a linear layer at every position."""

  features: int  # O
  size: int = 1
  gain: float = 1.0  # initial weights are N(0, gain^2 / fan-in)

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    window = (self.size, self.size) if self.size > 1 else ()
    init = nn.initializers.variance_scaling(self.gain**2, "fan_in", "normal")
    kernel = self.param("kernel", init, (*window, x.shape[-1], self.features))
    bias = self.param("bias", nn.initializers.zeros, (self.features,))
    return (convolve(x, kernel) if window else x @ kernel) + bias[None, None, None]


def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Returns the convolution [B, H, W, O] of x [B, H, W, I] with an odd kernel [k, k, I, O], padded with zeros.

  On a CPU, gradients are written out, because XLA's own gradient of the kernel is slow within a loop: an epoch of a
  prototype took 40.6 s with it and 4.3 s without.
  """
  return (_convolve_on_cpu if jax.default_backend() == "cpu" else conv_same)(x, kernel)


def conv_same(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """`convolve` with XLA's own gradients."""
  return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


@jax.custom_vjp
def _convolve_on_cpu(x: jax.Array, kernel: jax.Array) -> jax.Array:
  return conv_same(x, kernel)


def _convolve_backward(residuals: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns the gradients of x, a convolution with the flipped kernel, and of the kernel, by matrix products:

  dW[i, :, j, :] = (x shifted by i rows)^T (gradient shifted by -j columns),   i, j = -k/2, .., k/2
  """
  x, kernel = residuals
  size, _, inputs, outputs = kernel.shape
  dx = conv_same(gradient, kernel[::-1, ::-1].swapaxes(2, 3))
  shifts = range(-(size // 2), size // 2 + 1)
  rows = jax.lax.optimization_barrier([_shift(x, shift, axis=1) for shift in shifts])
  columns = jnp.concatenate([_shift(gradient, -shift, axis=2) for shift in shifts], axis=-1)
  columns = jax.lax.optimization_barrier(columns).reshape(-1, size * outputs)
  if x.shape[1] * x.shape[2] < 100:  # at low resolutions a product per row is faster than one of all rows
    products = jnp.stack([row.reshape(-1, inputs).T @ columns for row in rows])
  else:
    products = jnp.concatenate(rows, axis=-1).reshape(-1, size * inputs).T @ columns
  return dx, products.reshape(size, inputs, size, outputs).swapaxes(1, 2)


_convolve_on_cpu.defvjp(lambda x, kernel: (conv_same(x, kernel), (x, kernel)), _convolve_backward)


def _shift(x: jax.Array, count: int, axis: int) -> jax.Array:
  """Returns y with y[i] = x[i + count] along an axis, and zeros beyond the end."""
  count = max(-x.shape[axis], min(count, x.shape[axis]))
  moved = jax.lax.slice_in_dim(x, max(count, 0), x.shape[axis] + min(count, 0), axis=axis)
  return jnp.pad(moved, [(max(-count, 0), max(count, 0)) if i == axis else (0, 0) for i in range(x.ndim)])


def space_to_depth(x: jax.Array, height: int, width: int) -> jax.Array:
  """Returns [B, height, width, I], the rectangles of pixels of x [B, H, W, C] as channels."""
  batch, rows, columns, channels = x.shape
  x = x.reshape(batch, height, rows // height, width, columns // width, channels).swapaxes(2, 3)
  return x.reshape(batch, height, width, -1)


def depth_to_space(x: jax.Array, height: int, width: int) -> jax.Array:
  """Returns [B, height, width, O] of x [B, H, W, I]: the inverse of `space_to_depth`."""
  batch, rows, columns, _ = x.shape
  x = x.reshape(batch, rows, columns, height // rows, width // columns, -1).swapaxes(2, 3)
  return x.reshape(batch, height, width, -1)
