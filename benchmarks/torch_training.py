"""One training step in PyTorch: eager, compiled, or captured in a CUDA graph.

It does the work of a step of latentjax: gathers a shuffled batch of uint8 images on the device, binarizes it, draws
noise, clips the gradient of the negative ELBO, applies Adam and updates a moving average of the weights.

Several seeds are trained together by `torch.func.vmap` over weights, batch-norm statistics, order, pixels and noise.
Shapes: S seeds, M images of the dataset, B batch, H W C image, L groups.
"""

import contextlib
from collections.abc import Callable

import numpy as np
import torch
from torch.func import functional_call, stack_module_state, vmap

from benchmarks import torch_models


class Training:
  """A model in training.

  Args:
    config: A whole config of latentjax; the learning rate stays constant. S is `train.num_seeds`.
    images: [M, H, W, C] uint8.
    batch_size: B.
    variant: "plain" (eager, with Adam as PyTorch sets it by default), "eager" (fused Adam), "compile" (the loss and its
      gradient by `torch.compile`, fused Adam), "graph" or "compiled-graph" (the two last, the whole step in a CUDA
      graph; need a GPU).

  Raises:
    ValueError: The config uses an option that is not implemented here.
  """

  def __init__(self, config, images: np.ndarray, batch_size: int, variant: str):
    if config.train.iwae_samples > 1:
      raise ValueError("PyTorch minimizes the negative ELBO only. Set train.iwae_samples=1.")
    torch.manual_seed(config.seed)
    self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_float32_matmul_precision("high" if config.precision == "tensorfloat32" else "highest")
    self.config, self.batch_size, self.num_seeds = config.train, batch_size, config.train.num_seeds
    self.autocast = config.precision == "bfloat16"
    self.dynamic = config.data.binarization == "dynamic"
    self.images = torch.from_numpy(images).to(self.device)
    self.order = self._shuffle(len(images))
    self.position = torch.zeros(1, dtype=torch.long, device=self.device)
    models = [torch_models.create(config.model, images.shape[1:]).to(self.device) for _ in range(self.num_seeds)]
    self.model = models[0]
    loss = self.negative_elbo
    if self.num_seeds > 1:
      self.stacked, self.buffers = stack_module_state(models)  # [S, ...] each
      self.params, loss = list(self.stacked.values()), self.negative_elbos
    else:
      self.params = list(self.model.parameters())
    self.loss = torch.compile(loss) if variant.startswith("compile") else loss
    self.average = [parameter.detach().clone() for parameter in self.params]
    self.optimizer = torch.optim.Adam(
      self.params,
      lr=config.train.learning_rate,
      betas=(config.train.adam_b1, 0.999),
      fused=None if variant == "plain" else True,
      capturable=variant.endswith("graph"),
    )
    self.total = torch.zeros(3, device=self.device)  # sums of loss, reconstruction and KL, read once per call
    self.step: Callable[[], None] = _capture(self._step) if variant.endswith("graph") else self._step

  def call(self, count: int) -> None:
    """Trains `count` steps and waits for them."""
    for _ in range(count):
      self.step()
    self.total.tolist()  # waits for the device

  def _step(self) -> None:
    order = self.order.index_select(0, self.position)[0]  # [B], or [S, B]
    self.position.add_(1).remainder_(len(self.order))
    pixels = self.images.index_select(0, order.flatten()).view(*order.shape, *self.images.shape[1:]).float() / 255
    if self.dynamic:
      pixels = torch.bernoulli(pixels)
    shapes = self.model.noise_shapes(self.batch_size)
    noise = [torch.randn((*order.shape[:-1], *shape), device=self.device) for shape in shapes]
    self.optimizer.zero_grad(set_to_none=True)
    with torch.autocast(self.device.type, torch.bfloat16) if self.autocast else contextlib.nullcontext():
      loss, metrics = self.loss(pixels, noise)
    loss.backward()
    if self.config.clip_norm > 0:
      self.clip()
    self.optimizer.step()
    if self.config.ema_decay > 0:
      with torch.no_grad():
        torch._foreach_lerp_(self.average, self.params, 1 - self.config.ema_decay)
    self.total += metrics

  def _shuffle(self, num_images: int) -> torch.Tensor:
    """Returns image indices [batches, B], or [batches, S, B] with another order for each seed."""
    batches = num_images // self.batch_size
    orders = [torch.randperm(num_images, device=self.device) for _ in range(self.num_seeds)]
    orders = torch.stack([order[: batches * self.batch_size].view(batches, self.batch_size) for order in orders], 1)
    return orders if self.num_seeds > 1 else orders[:, 0]

  def clip(self) -> None:
    """Scales each seed's gradient down to `clip_norm`."""
    if self.num_seeds == 1:
      torch.nn.utils.clip_grad_norm_(self.params, self.config.clip_norm, foreach=True)
      return
    gradients = [parameter.grad for parameter in self.params]
    norms = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients]).norm(dim=0)  # [S]
    factors = (self.config.clip_norm / norms).clamp(max=1)
    torch._foreach_mul_(gradients, [factors.view(-1, *[1] * (gradient.ndim - 1)) for gradient in gradients])

  def negative_elbos(self, pixels: torch.Tensor, noise: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the sum of the seeds' losses, whose gradient is each seed's own, and the mean of their metrics."""

    def negative_elbo(params, buffers, pixels, noise):
      return self.bound(*functional_call(self.model, (params, buffers), (pixels, noise)))

    losses, metrics = vmap(negative_elbo)(self.stacked, self.buffers, pixels, noise)
    return losses.sum(), metrics.mean(0).detach()

  def negative_elbo(self, pixels: torch.Tensor, noise: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    loss, metrics = self.bound(*self.model(pixels, noise))
    return loss, metrics.detach()

  def bound(self, log_px: torch.Tensor, kl: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the loss, and [loss, reconstruction, KL], of log p(x|z) [B] and KL per group [B, L]."""
    reconstruction, kl = -log_px.mean(), kl.mean(0)  # kl [L]
    penalty = kl.clamp(min=self.config.free_bits) if self.config.free_bits > 0 else kl
    loss = reconstruction + self.config.beta * penalty.sum()
    return loss, torch.stack([loss, reconstruction, kl.sum()])


def _capture(step: Callable[[], None]) -> Callable[[], None]:
  """Records a step in a CUDA graph after a warm-up, as PyTorch's manual describes; replaying it is one launch."""
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
