"""A function that needs more memory than there is is refused before it runs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from latentjax.runtime import cost
from latentjax.runtime.cost import compile_checked, free_bytes
from latentjax.runtime.errors import RunError


def outer(x):
  """Makes temporary arrays of 4 MB each."""
  return jnp.sin(x[:, None] * x[None, :]) @ jnp.cos(x[:, None] + x[None, :])


def test_a_function_that_does_not_fit_is_refused(monkeypatch):
  traced = jax.jit(outer).trace(jnp.ones(1000))
  monkeypatch.setattr(cost, "free_bytes", lambda: 3_000_000)
  with pytest.raises(RunError, match=r"needs 0\.0 GiB of memory.* GiB are free: lower train\.batch_size"):
    compile_checked(traced)
  monkeypatch.setattr(cost, "free_bytes", lambda: 100_000_000)
  np.testing.assert_array_equal(compile_checked(traced)(jnp.ones(1000)), jax.jit(outer)(jnp.ones(1000)))


def test_the_host_has_free_memory():
  assert 2**20 < free_bytes() < 2**50
