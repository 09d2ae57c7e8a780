"""Execution plans: implementation choices that make DRAW fast on a backend (measured in benchmarks/NOTES.md)."""

import dataclasses
from functools import partial

from latentjax.models.draw.attention import AttentionImpl, each_window, read_each
from latentjax.models.draw.attention_cpu import filterbanks_cpu, read_cpu, write_cpu
from latentjax.models.draw.attention_gpu import filterbanks_gpu, read_gpu, write_gpu

ATTENTION_IMPLS = {
  "cpu": AttentionImpl(partial(each_window, filterbanks_cpu), partial(read_each, read_cpu), write_cpu),
  "gpu": AttentionImpl(filterbanks_gpu, read_gpu, write_gpu),
}

CHOICES = {
  "weight_gradients": ("per_step", "deferred"),
  "remat": ("none", "step", "sqrt"),
  "attention_impl": tuple(ATTENTION_IMPLS),
  "peel_last": (True, False),
  "alignment": (16, 64),
}


@dataclasses.dataclass(frozen=True)
class ExecutionPlan:
  """Choices of `fused.infer` that change speed and memory but no value; see `CHOICES` and `recurrent.scan_layers`."""

  unroll: int  # steps per iteration of the compiled loop
  weight_gradients: str  # "deferred" stores what remat would recompute
  remat: str
  attention_impl: str
  peel_last: bool  # runs the last step outside of the loop, without the outputs that only a next step would use
  alignment: int  # of columns within merged kernels: 16 for a CPU's vectors, 64 for tiles of a GPU's matrix product

  def __post_init__(self):
    if not isinstance(self.unroll, int) or self.unroll < 1:
      raise ValueError(f"unroll must be at least 1, not {self.unroll!r}")
    for field, choices in CHOICES.items():
      if getattr(self, field) not in choices:
        raise ValueError(f"{field} must be one of {', '.join(map(str, choices))}, not {getattr(self, field)!r}")
    if self.weight_gradients == "deferred" and self.remat != "none":
      raise ValueError("weight_gradients = 'deferred' stores what remat would recompute. Drop one of the two.")


def choose_plan(unroll: int, weight_gradients: str, remat: str, num_steps: int, backend: str) -> ExecutionPlan:
  """Chooses a plan for a backend: arithmetic and memory are the bottleneck on a CPU, kernel launches elsewhere.

  With remat, or on a CPU, the loop is not unrolled, gradients are not deferred, and the last step is peeled, unless
  `unroll` is not 0 or `weight_gradients` not "auto". Backends are "cpu", "gpu" and "tpu".
  """
  on_cpu = backend == "cpu"
  keep_all = not on_cpu and remat == "none"
  return ExecutionPlan(
    unroll=min(unroll or (num_steps if keep_all else 1), num_steps),
    weight_gradients=("deferred" if keep_all else "per_step") if weight_gradients == "auto" else weight_gradients,
    remat=remat,
    attention_impl="cpu" if on_cpu else "gpu",
    peel_last=not keep_all,
    alignment=16 if on_cpu else 64,
  )
