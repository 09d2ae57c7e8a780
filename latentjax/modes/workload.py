"""A step of training, evaluation or sampling, compiled, with all that it needs to be timed."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from latentjax.console import compiling
from latentjax.experiment import create_keys
from latentjax.mesh import sharding
from latentjax.training import memory
from latentjax.training.compiled import create_inference, create_steps
from latentjax.training.flops import matmul_flops

FEW = 2  # steps of the first call where one may take seconds: a loop, as in training


@dataclasses.dataclass(frozen=True)
class Workload:
  """What is timed: a compiled function with its arguments on the device.

  Attributes:
    call: (count) -> None does `count` steps and waits for them; the first call with a count compiles it.
    compiled: the executable of `few` steps, for what it says of its memory.
    compile_seconds: tracing, lowering and compiling it.
    devices: that share the work.
    num_seeds: trained or evaluated together.
    images: of one step, of all seeds.
    flops: of one step, see `matmul_flops`; what it computes again for the sake of memory is no work.
    recomputed_flops: what it computes again.
    few: steps of the first call; on an accelerator as many as training gives one, so that mostly no other is compiled.
    most_steps: that training gives one call.
  """

  call: Callable[[int], None]
  compiled: Any
  compile_seconds: float
  devices: int
  num_seeds: int
  images: int
  flops: int
  recomputed_flops: int
  few: int
  most_steps: int


def create_workload(
  config: ConfigDict, model, images: np.ndarray, batch_size: int, mesh: Mesh | None = None
) -> Workload:
  """Compiles the phase that `config.benchmark.phase` names, for one batch size.

  Args:
    images: [M, H, W, C] uint8; repeated where they do not fill a batch.
    mesh: the devices that share each batch, as in training.

  Raises:
    RunError: it needs more memory than there is.
  """
  config = config.copy_and_resolve_references()
  config.train.batch_size = batch_size
  if config.benchmark.phase == "sample":
    config.train.num_seeds = 1  # as --mode=sample has it
  if config.train.importance_start > 0:
    config.train.importance_samples = 1  # what comes later is not what the first steps compute
  images = np.resize(images, (max(len(images), batch_size), *images.shape[1:]))
  images = jax.device_put(images, sharding(mesh))
  steps, inference = create_steps(config, model, len(images), mesh), create_inference(config, model, mesh)
  keys, recomputed = create_keys(config), 0
  few, most = FEW if jax.default_backend() == "cpu" else config.train.steps_per_call, config.train.steps_per_call
  state = steps.init(keys.init)

  def compile_ahead(function, *args):
    began = time.perf_counter()
    with compiling():
      traced = function.trace(*args)
      compiled = memory.compile_to_fit(traced)
    return compiled, time.perf_counter() - began, matmul_flops(traced.jaxpr)

  if config.benchmark.phase == "train":
    order = steps.order(keys.order, 0)
    arguments = images, order, keys.train
    compiled, seconds, flops = compile_ahead(steps.train, state, *arguments, few)
    if getattr(model, "remat", "none") != "none":
      whole = create_steps(config, model.clone(remat="none"), len(images), mesh)
      recomputed = (flops - matmul_flops(whole.train.trace(state, *arguments, few).jaxpr)) // few
    flops //= few

    def call(count):
      nonlocal state
      state, metrics = compiled(state, *arguments) if count == few else steps.train(state, *arguments, count)
      jax.block_until_ready((state, metrics))

  else:
    if config.benchmark.phase == "eval":
      function, args, dynamic = inference.evaluate, (state.variables, images[:batch_size], keys.evaluate), 3
    else:
      function, args, dynamic = inference.sample, (state.variables, keys.sample, batch_size), 2
    compiled, seconds, flops = compile_ahead(function, *args)

    def call(count):
      for _ in range(count):
        out = compiled(*args[:dynamic])
      jax.block_until_ready(out)

  return Workload(
    call=call,
    compiled=compiled,
    compile_seconds=seconds,
    devices=inference.num_devices,
    num_seeds=config.train.num_seeds,
    images=config.train.num_seeds * batch_size,
    flops=flops - recomputed,
    recomputed_flops=recomputed,
    few=few,
    most_steps=most,
  )
