"""A profile of the first steps of a training, for TensorBoard's plugin and Perfetto."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import jax

from latentjax.console import console


@contextmanager
def profiled(train: Callable, num_steps: int, directory: Path) -> Iterator[Callable]:
  """`steps.train`, compiled, that writes a `jax.profiler` trace of its first calls, of `num_steps` steps at least.

  Of several processes that are one run the first writes.

  Args:
    num_steps: 0 writes none.
    directory: `plugins/profile/` is made there.
  """
  left, running = num_steps if jax.process_index() == 0 else 0, False

  def finish() -> None:
    nonlocal running
    running = False
    jax.profiler.stop_trace()
    console.print(f"  {directory / 'plugins' / 'profile'}  {num_steps - left} steps")

  def call(state, images, order, key, count):
    nonlocal left, running
    if left > 0 and not running:
      jax.profiler.start_trace(str(directory))
      running = True
    result = train(state, images, order, key, count)
    if running:
      jax.block_until_ready(result)
      left -= int(count)
      if left <= 0:
        finish()
    return result

  try:
    yield call
  finally:
    if running:  # the training was shorter
      finish()
