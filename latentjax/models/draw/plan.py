"""What makes the fast path fast on a backend, as benchmarks/NOTES.md found it."""

import dataclasses
from functools import partial

from latentjax.models.draw.attention import AttentionImpl, each_window, read_each
from latentjax.models.draw.attention_cpu import filterbanks_cpu, read_cpu, write_cpu
from latentjax.models.draw.attention_gpu import filterbanks_gpu, read_gpu, write_gpu

CHOICES = {
  "weight_gradients": ("per_step", "deferred"),
  "remat": ("none", "step", "sqrt"),
  "attention_impl": ("cpu", "gpu"),
  "peel_last": (True, False),
  "alignment": (16, 64),
}


@dataclasses.dataclass(frozen=True)
class ExecutionPlan:
  """How `fast.infer` computes the steps: speed and memory, never a value. Each field can be set by itself.

  Attributes:
    unroll: steps per iteration of the compiled loop.
    weight_gradients: "per_step" or "deferred", see `scan_layers`; "deferred" keeps what remat would compute again.
    remat: "none", "step" or "sqrt", see `scan.scan_remat`.
    attention_impl: "gpu" for few launches or "cpu" for a CPU, see `layouts`.
    peel_last: make the last step outside of the loop, without what only a next step would use.
    alignment: numbers at whose multiples parts of a product begin: 16, a vector of a CPU, or 64, a tile of a GPU's
      product.

  Raises:
    ValueError: a value is none of its field's, or two exclude each other.
  """

  unroll: int
  weight_gradients: str
  remat: str
  attention_impl: str
  peel_last: bool
  alignment: int

  def __post_init__(self):
    if not isinstance(self.unroll, int) or self.unroll < 1:
      raise ValueError(f"unroll must be at least 1, not {self.unroll!r}")
    for field, choices in CHOICES.items():
      if getattr(self, field) not in choices:
        raise ValueError(f"{field} must be one of {', '.join(map(str, choices))}, not {getattr(self, field)!r}")
    if self.weight_gradients == "deferred" and self.remat != "none":
      raise ValueError("weight_gradients = 'deferred' keeps what remat would compute again: drop one of the two")


def choose_plan(unroll: int, weight_gradients: str, remat: str, num_steps: int, backend: str) -> ExecutionPlan:
  """The plan for a backend: on a CPU arithmetic and memory cost most, elsewhere launches.

  What saves memory by computing again goes with none of the two that cost memory for speed. With it, and on a CPU, the
  last step is made outside of the loop.

  Args:
    unroll: of the config; 0 chooses by backend.
    weight_gradients: of the config; "auto" chooses by backend.
    remat: of the config.
    num_steps: T.
    backend: "cpu", "gpu" or "tpu".
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


ATTENTION_IMPLS = {
  "gpu": AttentionImpl(filterbanks_gpu, read_gpu, write_gpu),
  "cpu": AttentionImpl(partial(each_window, filterbanks_cpu), partial(read_each, read_cpu), write_cpu),
}
