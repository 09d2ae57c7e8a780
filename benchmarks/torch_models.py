"""The models of `latentjax/models` in PyTorch, to be compared in speed.

`model(images [B, H, W, C], noise)` returns (log p(x|z) [B], KL per group [B, L]) in nats, with the same sizes and
equations. `noise` is a list of standard normal arrays with the shapes of `model.noise_shapes(B)`.
Shapes: B batch, H W C image, N glimpse, Z latent, U hidden units, T steps, L groups.
"""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from latentjax.models.conv_ladder import BLOCK_GAIN, HEAD_GAIN, LOG_STD_RANGE, parse_levels

MIN_VARIANCE = 1e-6  # as in latentjax/models/ladder_vae.py


def create(config, image_shape: tuple[int, int, int]) -> nn.Module:
  """Creates the model of `config.model`.

  Raises:
    ValueError: It uses an option that is not implemented here.
  """
  fields = config.to_dict()
  fixed = {"layer_norm": False, "mlp_depth": 1, "inference": "ladder", "skips": False, "network": "dense"}
  for name, value in (fixed | {"likelihood": "bernoulli", "merge": "concat"}).items():
    if fields.get(name, value) != value:
      raise ValueError(f"the models in PyTorch need model.{name}={value}")
  model = {"draw": DRAW, "vae": VAE, "ladder_vae": LadderVAE, "conv_ladder": ConvLadderVAE}[fields["name"]]
  return model(image_shape, fields)


def log_bernoulli(logits: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
  """Returns log p(x|z) [B] of logits and images [B, pixels]."""
  return -F.binary_cross_entropy_with_logits(logits, images, reduction="none").sum(-1)


def kl_to_standard(mean: torch.Tensor, log_std: torch.Tensor) -> torch.Tensor:
  return 0.5 * (mean.square() + (2 * log_std).exp() - 2 * log_std - 1).sum(-1)


def mlp(widths: list[int], activation: type[nn.Module]) -> nn.Sequential:
  layers = [[nn.Linear(a, b), activation()] for a, b in pairwise(widths)]
  return nn.Sequential(*(layer for pair in layers for layer in pair))


class VAE(nn.Module):
  """See latentjax/models/vae.py."""

  def __init__(self, image_shape, fields):
    super().__init__()
    pixels, latents, widths = _pixels(image_shape), fields["latent_dim"], list(fields["hidden_dims"])
    activation = {"relu": nn.ReLU, "tanh": nn.Tanh, "silu": nn.SiLU}[fields["activation"]]
    self.latents = latents
    self.encoder = mlp([pixels, *widths], activation)
    self.posterior = nn.Linear(widths[-1], 2 * latents)
    self.decoder = mlp([latents, *widths[::-1]], activation)
    self.pixels = nn.Linear(widths[0], pixels)

  def noise_shapes(self, batch: int) -> list[tuple[int, ...]]:
    return [(batch, self.latents)]

  def forward(self, images, noise):
    images = images.flatten(1)
    mean, log_std = self.posterior(self.encoder(images)).chunk(2, -1)
    z = mean + log_std.exp() * noise[0]
    return log_bernoulli(self.pixels(self.decoder(z)), images), kl_to_standard(mean, log_std)[:, None]


class LadderVAE(nn.Module):
  """See latentjax/models/ladder_vae.py; inference by the ladder and one hidden layer per MLP.

  q(z_i | z_{i+1}, x): var_q = 1/(1/var^ + 1/var_p),  mu_q = var_q (mu^/var^ + mu_p/var_p)
  """

  def __init__(self, image_shape, fields):
    super().__init__()
    pixels, widths, latents = _pixels(image_shape), list(fields["hidden_dims"]), list(fields["latent_dims"])
    self.latents = latents
    self.up = nn.ModuleList(_layer(a, b) for a, b in pairwise([pixels, *widths]))
    self.upward = nn.ModuleList(nn.Linear(h, 2 * z) for h, z in zip(widths, latents, strict=True))
    # From z_{i+1} to the prior of z_i, through a layer as wide as the one below.
    self.down = nn.ModuleList(_layer(z, h) for z, h in zip(latents[1:], widths[1:], strict=True))
    self.downward = nn.ModuleList(nn.Linear(h, 2 * z) for h, z in zip(widths[1:], latents[:-1], strict=True))
    self.decoder = _layer(latents[0], widths[0])
    self.pixels = nn.Linear(widths[0], pixels)

  def noise_shapes(self, batch):
    return [(batch, z) for z in self.latents]

  def forward(self, images, noise):
    images = images.flatten(1)
    features, bottom_up = images, []
    for layer, head in zip(self.up, self.upward, strict=True):
      features = layer(features)
      bottom_up.append(_mean_variance(head(features)))
    mean, variance = bottom_up[-1]
    kls = [0.5 * (mean.square() + variance - variance.log() - 1).sum(-1)]
    z = mean + variance.sqrt() * noise[-1]
    for i in reversed(range(len(self.down))):
      prior_mean, prior_variance = _mean_variance(self.downward[i](self.down[i](z)))
      mean_up, variance_up = bottom_up[i]
      variance = 1 / (1 / variance_up + 1 / prior_variance)
      mean = variance * (mean_up / variance_up + prior_mean / prior_variance)
      ratio = variance / prior_variance
      kls.append(0.5 * ((mean - prior_mean).square() / prior_variance + ratio - ratio.log() - 1).sum(-1))
      z = mean + variance.sqrt() * noise[i]
    return log_bernoulli(self.pixels(self.decoder(z)), images), torch.stack(kls[::-1], -1)


class ConvLadderVAE(nn.Module):
  """See latentjax/models/conv_ladder.py; merge = "concat" and square images. Levels are counted from the top.

  Maps are [B, U, h, w] in PyTorch's memory format "channels last".
  """

  def __init__(self, image_shape, fields):
    super().__init__()
    levels, (height, width, channels) = parse_levels(fields["levels"]), image_shape
    if height != width:
      raise ValueError("the convolutional model in PyTorch needs square images")
    sides, finer = [level.height for level in levels], [*(level.channels for level in levels[1:]), channels]
    factors = [below // side for side, below in pairwise([*sides, height])]
    self.up, self.layers, self.down = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
    self.maps, self.noise_sizes = nn.ParameterList(), []
    gain = BLOCK_GAIN / math.sqrt(sum(level.layers for level in levels))
    for (side, count, units, latents), factor, outputs in zip(levels, factors, finer, strict=True):
      size = 3 if side > 1 else 1  # of the convolutions that see neighbors
      block = ConvBlock(units, size, BLOCK_GAIN / math.sqrt(len(levels)))
      self.up.append(nn.Sequential(nn.PixelUnshuffle(factor), _conv(factor**2 * outputs, units), block))
      self.layers.append(nn.ModuleList(ConvLadderLayer(units, latents, size, gain) for _ in range(count)))
      self.down.append(nn.Sequential(_leaky(), _conv(units, factor**2 * outputs), nn.PixelShuffle(factor)))
      self.maps.append(nn.Parameter(torch.zeros(1, units, side, side)))
      self.noise_sizes = [side * side * latents] * count + self.noise_sizes
    self.offset = nn.Parameter(torch.zeros(1, channels, height, width))
    self.to(memory_format=torch.channels_last)

  def noise_shapes(self, batch):
    return [(batch, size) for size in self.noise_sizes]

  def forward(self, images, noise):
    images = images.permute(0, 3, 1, 2)
    d, features = images - self.offset.sigmoid(), []
    for up in reversed(self.up):
      d = up(d)
      features.insert(0, d)
    h, kls, noise = 0, [], list(noise)
    for start, layers, down, d in zip(self.maps, self.layers, self.down, features, strict=True):
      h = (h + start).expand(len(images), -1, -1, -1)
      for layer in layers:
        epsilon = noise.pop().reshape(len(images), *h.shape[2:], -1).permute(0, 3, 1, 2)
        h, kl = layer(h, d, epsilon)
        kls.insert(0, kl)
      h = down(h)
    return log_bernoulli((h + self.offset).flatten(1), images.flatten(1)), torch.stack(kls, -1)


class ConvLadderLayer(nn.Module):
  """A layer of latents, with its posterior in units of the prior."""

  def __init__(self, units: int, latents: int, size: int, gain: float):
    super().__init__()
    self.activate = _leaky()
    self.prior, self.posterior = (_conv(units, 2 * latents, gain=HEAD_GAIN) for _ in range(2))
    self.merge_h, self.merge_d = _conv(units, units, size), _conv(units, units)
    self.z, self.block = _conv(latents, units, gain=gain), ConvBlock(units, size, gain)

  def forward(self, h, d, noise):
    active = self.activate(h)
    prior_mean, prior_log_std = self.prior(active).chunk(2, 1)
    mean, log_std = self.posterior(self.activate(self.merge_h(active) + self.merge_d(d))).chunk(2, 1)
    log_std = log_std.clamp(*LOG_STD_RANGE["posterior"])
    z = prior_mean + prior_log_std.clamp(*LOG_STD_RANGE["prior"]).exp() * (mean + log_std.exp() * noise)
    return self.block(h + self.z(z)), kl_to_standard(mean, log_std).sum((1, 2))


class ConvBlock(nn.Module):
  def __init__(self, units: int, size: int, gain: float):
    super().__init__()
    self.convs = nn.Sequential(_leaky(), _conv(units, units, size), _leaky(), _conv(units, units, gain=gain))

  def forward(self, x):
    return x + self.convs(x)


class DRAW(nn.Module):
  """See latentjax/models/draw/reference.py. One linear layer for all gates of an LSTM, as is usual in eager code."""

  def __init__(self, image_shape, fields):
    super().__init__()
    self.image_shape, self.steps, self.latents = image_shape, fields["num_steps"], fields["latent_dim"]
    self.attend = fields["attention"] == "filterbank"
    self.read_size, self.write_size = fields["read_size"], fields["write_size"]
    pixels, units, channels = _pixels(image_shape), fields["hidden_dim"], image_shape[-1]
    num_read = 2 * self.read_size**2 * channels if self.attend else pixels
    num_write = self.write_size**2 * channels if self.attend else pixels
    self.encoder = nn.Linear(num_read + 2 * units, 4 * units)
    self.image = None if self.attend else nn.Linear(pixels, 4 * units, bias=False)  # the encoder's weights of the image
    self.posterior = nn.Linear(units, 2 * self.latents)
    self.decoder = nn.Linear(self.latents + units, 4 * units)
    self.write = nn.Linear(units, num_write)
    self.read_window = nn.Linear(units, 5) if self.attend else None
    self.write_window = nn.Linear(units, 5) if self.attend else None
    self.prior = nn.Linear(units, 2 * self.latents) if fields["prior"] == "learned" else None
    self.canvas = nn.Parameter(torch.zeros(image_shape))
    self.states = nn.Parameter(torch.zeros(4, units))  # hidden and cell of the encoder, hidden and cell of the decoder
    for name, parameter in self.named_parameters():
      if parameter.ndim == 2 and name != "states":
        nn.init.normal_(parameter, std=fields["init_scale"])
      elif name.endswith("bias"):
        nn.init.zeros_(parameter)
    with torch.no_grad():
      for lstm in (self.encoder, self.decoder):
        lstm.bias[units : 2 * units] = 1.0
      for head in filter(None, (self.read_window, self.write_window)):
        head.bias[2], head.bias[3] = fields["init_log_variance"], fields["init_log_stride"]
      if self.attend:
        self.write_window.bias[4] = -math.log(fields["init_write_gain"])
      if self.prior is not None:
        nn.init.zeros_(self.prior.weight)

  def noise_shapes(self, batch):
    return [(self.steps, batch, self.latents)]

  def forward(self, images, noise):
    batch, kls = len(images), []
    image_gates = None if self.attend else self.image(images.flatten(1))  # constant over steps, as in latentjax
    canvas = self.canvas.expand(batch, *self.image_shape)
    h_enc, c_enc, h_dec, c_dec = (state.expand(batch, -1) for state in self.states)
    for epsilon in noise[0]:
      error = images - canvas.sigmoid()
      h_enc, c_enc = _lstm(self.encoder, [self._read(images, error, h_dec), h_dec, h_enc], c_enc, image_gates)
      mean, log_std = self.posterior(h_enc).chunk(2, -1)
      kls.append(kl_to_standard(mean, log_std))  # the posterior is relative to the prior
      z = mean + log_std.exp() * epsilon
      if self.prior is not None:
        prior_mean, prior_log_std = self.prior(h_dec).chunk(2, -1)
        z = prior_mean + prior_log_std.exp() * z
      h_dec, c_dec = _lstm(self.decoder, [z, h_dec], c_dec)
      canvas = canvas + self._write(h_dec)
    return log_bernoulli(canvas.flatten(1), images.flatten(1)), torch.stack(kls, -1)

  def _read(self, images, error, h_dec):
    if not self.attend:
      return error.flatten(1)
    vertical, horizontal, intensity = self._window(self.read_window(h_dec), self.read_size)
    stacked = torch.cat([images, error], -1).permute(0, 3, 1, 2)  # [B, 2C, H, W]
    glimpse = vertical[:, None] @ stacked @ horizontal[:, None].mT  # [B, 2C, N, N]
    return (intensity[:, None] * glimpse).flatten(1)

  def _write(self, h_dec):
    if not self.attend:
      return self.write(h_dec).view(-1, *self.image_shape)
    vertical, horizontal, intensity = self._window(self.write_window(h_dec), self.write_size)
    patch = self.write(h_dec).view(-1, self.image_shape[-1], self.write_size, self.write_size)
    return (vertical[:, None].mT @ patch @ horizontal[:, None] / intensity[:, None]).permute(0, 2, 3, 1)

  def _window(self, params, size):
    """Returns filters [B, N, H] and [B, N, W], and the intensity [B, 1, 1]."""
    height, width, _ = self.image_shape
    g_x, g_y, log_variance, log_stride, log_intensity = params[:, :, None].unbind(1)  # [B, 1]
    offsets = torch.arange(size, device=params.device) - 0.5 * (size - 1)
    stride = (max(height, width) - 1) / max(size - 1, 1) * log_stride.exp()

    def filters(center, extent):
      means = center + offsets * stride  # [B, N]
      distance = torch.arange(extent, device=params.device) - means[:, :, None]  # [B, N, extent]
      return (-0.5 * distance.square() / log_variance.exp()[:, :, None]).softmax(-1)

    center_y, center_x = 0.5 * (height + 1) * (g_y + 1) - 1, 0.5 * (width + 1) * (g_x + 1) - 1
    return filters(center_y, height), filters(center_x, width), log_intensity.exp()[:, :, None]


def _pixels(image_shape) -> int:
  height, width, channels = image_shape
  return height * width * channels


def _layer(inputs: int, outputs: int) -> nn.Sequential:
  return nn.Sequential(nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.LeakyReLU())


def _conv(inputs: int, outputs: int, size: int = 1, gain: float = 1.0) -> nn.Conv2d:
  conv = nn.Conv2d(inputs, outputs, size, padding=size // 2)
  nn.init.normal_(conv.weight, std=gain / math.sqrt(inputs * size**2))
  nn.init.zeros_(conv.bias)
  return conv


def _leaky() -> nn.LeakyReLU:
  return nn.LeakyReLU(0.1)


def _mean_variance(params: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
  mean, variance = params.chunk(2, -1)
  return mean, F.softplus(variance) + MIN_VARIANCE


def _lstm(
  layer: nn.Linear, inputs: list[torch.Tensor], cell: torch.Tensor, extra: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
  gates = layer(torch.cat(inputs, -1))
  i, f, g, o = (gates if extra is None else gates + extra).chunk(4, -1)
  cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
  return o.sigmoid() * cell.tanh(), cell
