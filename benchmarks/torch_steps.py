"""One training step in PyTorch, four ways: plain, eager, compiled, and captured whole in a CUDA graph.

Each does what a step of latentjax does: gathers a shuffled batch of uint8 images on the device, binarises it, draws
noise, and goes down the gradient of the negative ELBO by Adam after clipping, with a moving average of the weights.
Plain and eager are alike but for Adam: as PyTorch sets it by default, and fused, as in the other two.
"""

import contextlib
from collections.abc import Callable

import numpy as np
import torch

from benchmarks import torch_models


class Training:
  """A model in training; `call(count)` does that many steps and waits for them.

  Args:
    config: a whole config of latentjax; its learning rate stays constant.
    images: [M, H, W, C] uint8.
    batch_size: B.
    way: "plain", "eager", "compile", or "graph", which needs a GPU.
  """

  def __init__(self, config, images: np.ndarray, batch_size: int, way: str):
    torch.manual_seed(config.seed)
    self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_float32_matmul_precision("high" if config.precision == "tensorfloat32" else "highest")
    self.config, self.batch_size = config.train, batch_size
    self.reduced = config.precision == "bfloat16"
    self.dynamic = config.data.binarization == "dynamic"
    self.images = torch.from_numpy(images).to(self.device)
    batches = len(images) // batch_size
    self.order = torch.randperm(len(images), device=self.device)[: batches * batch_size].view(batches, batch_size)
    self.position = torch.zeros(1, dtype=torch.long, device=self.device)
    self.model = torch_models.create(config.model, images.shape[1:]).to(self.device)
    self.loss = torch.compile(self.negative_elbo) if way == "compile" else self.negative_elbo
    self.params = list(self.model.parameters())
    self.average = [parameter.detach().clone() for parameter in self.params]
    self.optimizer = torch.optim.Adam(
      self.params,
      lr=config.train.learning_rate,
      betas=(config.train.adam_b1, 0.999),
      fused=None if way == "plain" else True,
      capturable=way == "graph",
    )
    self.total = torch.zeros(3, device=self.device)  # sums of loss, reconstruction and KL, read once a call
    self.step: Callable[[], None] = captured(self.one_step) if way == "graph" else self.one_step

  def call(self, count: int) -> None:
    for _ in range(count):
      self.step()
    self.total.tolist()  # waits for the device

  def one_step(self) -> None:
    order = self.order.index_select(0, self.position)[0]
    self.position.add_(1).remainder_(len(self.order))
    pixels = self.images.index_select(0, order).float() / 255
    if self.dynamic:
      pixels = torch.bernoulli(pixels)
    noise = [torch.randn(shape, device=self.device) for shape in self.model.noise_shapes(self.batch_size)]
    self.optimizer.zero_grad(set_to_none=True)
    with torch.autocast(self.device.type, torch.bfloat16) if self.reduced else contextlib.nullcontext():
      loss, metrics = self.loss(pixels, noise)
    loss.backward()
    if self.config.clip_norm > 0:
      torch.nn.utils.clip_grad_norm_(self.params, self.config.clip_norm, foreach=True)
    self.optimizer.step()
    if self.config.ema_decay > 0:
      torch._foreach_lerp_(self.average, self.params, 1 - self.config.ema_decay)
    self.total += metrics

  def negative_elbo(self, pixels: torch.Tensor, noise: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    log_px, kl = self.model(pixels, noise)
    reconstruction, kl = -log_px.mean(), kl.sum(-1).mean()
    loss = reconstruction + self.config.beta * kl
    return loss, torch.stack([loss, reconstruction, kl]).detach()


def captured(step: Callable[[], None]) -> Callable[[], None]:
  """The step recorded in a CUDA graph after a warm-up, as PyTorch's manual describes; replaying it is one launch."""
  side = torch.cuda.Stream()
  side.wait_stream(torch.cuda.current_stream())
  with torch.cuda.stream(side):
    for _ in range(3):
      step()
  torch.cuda.current_stream().wait_stream(side)
  graph = torch.cuda.CUDAGraph()
  with torch.cuda.graph(graph):
    step()
  return graph.replay
