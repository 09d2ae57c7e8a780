"""A function that needs more memory than there is is refused before it runs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from latentjax.errors import RunError
from latentjax.training import memory


def outer(x):
  """Makes temporary arrays of 4 MB each."""
  return jnp.sin(x[:, None] * x[None, :]) @ jnp.cos(x[:, None] + x[None, :])


def test_a_function_that_does_not_fit_is_refused(monkeypatch):
  traced = jax.jit(outer).trace(jnp.ones(1000))
  monkeypatch.setattr(memory, "free_bytes", lambda: 3_000_000)
  with pytest.raises(RunError, match=r"needs 0\.0 GiB of memory.* GiB are free: lower train\.batch_size"):
    memory.compile_to_fit(traced)
  monkeypatch.setattr(memory, "free_bytes", lambda: 100_000_000)
  np.testing.assert_array_equal(memory.compile_to_fit(traced)(jnp.ones(1000)), jax.jit(outer)(jnp.ones(1000)))


def test_the_host_has_free_memory():
  assert 2**20 < memory.free_bytes() < 2**50
