"""What cannot fit is refused, by what the compiler says and, before it is asked, by what a scan stacks up."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from latentjax.errors import RunError
from latentjax.training import memory


def chain(x):
  """500 steps; the gradient needs the 4 kB that each of them made."""

  def step(carry, _):
    return jnp.sin(carry), None

  return jax.lax.scan(step, x, None, length=500)[0].sum()


def test_a_scan_stacks_up_what_the_gradient_needs():
  x = jnp.ones(1000)
  assert memory.stacked_bytes(jax.make_jaxpr(chain)(x)) == 0
  gradient = jax.make_jaxpr(jax.jit(jax.grad(chain)))(x)
  assert memory.stacked_bytes(gradient) == 500 * 1000 * 4
  compiled = jax.jit(jax.grad(chain)).lower(x).compile()
  assert compiled.memory_analysis().temp_size_in_bytes >= 500 * 1000 * 4
  checkpointed = jax.make_jaxpr(jax.grad(jax.checkpoint(chain)))(x)  # only moved: inside, the same scan stacks up
  assert memory.stacked_bytes(checkpointed) == 500 * 1000 * 4


def test_what_does_not_fit_is_refused_before_it_is_compiled(monkeypatch):
  x, step = jnp.ones(1000), jax.jit(jax.grad(chain))
  monkeypatch.setattr(memory, "free_bytes", lambda: 1_999_999)
  traced = SimpleNamespace(jaxpr=step.trace(x).jaxpr, lower=lambda: pytest.fail("it was compiled"))
  with pytest.raises(RunError, match=r"needs 0\.0 GiB of memory.*: lower train\.batch_size"):
    memory.compile_to_fit(traced)
  monkeypatch.setattr(memory, "free_bytes", lambda: 999_999)
  with pytest.raises(RunError, match="lower train"):
    memory.compile_to_fit(traced, num_devices=2)
  monkeypatch.setattr(memory, "free_bytes", lambda: 10_000_000)
  assert float(memory.compile_to_fit(step.trace(x))(x)[0]) == pytest.approx(float(step(x)[0]))


def test_what_only_the_compiler_knows_is_refused_too(monkeypatch):
  def plain(x):
    return jnp.sin(x[:, None] * x[None, :]) @ jnp.cos(x[:, None] + x[None, :])

  monkeypatch.setattr(memory, "free_bytes", lambda: 3_000_000)
  with pytest.raises(RunError, match="GiB are free"):
    memory.compile_to_fit(jax.jit(plain).trace(jnp.ones(1000)))
