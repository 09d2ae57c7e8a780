"""Checkpoints of the train state by Orbax: the newest, and the best by validation ELBO."""

import textwrap
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from latentjax.errors import RunError


class Checkpoints:
  """The folder `checkpoints/` of a workdir. Use as a context manager.

  Saving is synchronous: the state's buffers are donated to the next training call, so nothing may still
  read them by then.

  Args:
    directory: created if need be.
    read_only: change nothing in it, so that a training that writes there now is not disturbed.

  Raises:
    RunError: the directory cannot be created.
  """

  def __init__(self, directory: Path, read_only: bool = False):
    self.directory = directory
    if not read_only:
      try:
        directory.mkdir(parents=True, exist_ok=True)
      except OSError as error:
        raise RunError(f"cannot create {directory} ({error.strerror}): choose another --workdir") from None
    keep = [policies.LatestN(n=1), policies.BestN(get_metric_fn=lambda metrics: metrics["elbo"], n=1)]
    self._manager = ocp.CheckpointManager(
      directory.absolute(),
      options=ocp.CheckpointManagerOptions(
        preservation_policy=policies.AnyPreservationPolicy(keep),
        best_fn=lambda metrics: metrics["elbo"],
        best_mode="max",
        enable_async_checkpointing=False,
        cleanup_tmp_directories=not read_only,
        read_only=read_only,
      ),
    )

  def __enter__(self) -> "Checkpoints":
    return self

  def __exit__(self, *_) -> None:
    self._manager.close()

  @property
  def newest(self) -> int | None:
    """Step of the newest checkpoint, or None."""
    return self._manager.latest_step()

  @property
  def best(self) -> int | None:
    """Step of the checkpoint with the highest validation ELBO, or None."""
    return self._manager.best_step()

  def save(self, state: Any, elbo: float) -> None:
    """Keeps a state with its validation ELBO in nats.

    Raises:
      RunError: the disk refuses; earlier checkpoints stay.
    """
    try:
      self._manager.save(int(state.step), args=ocp.args.StandardSave(state), metrics={"elbo": elbo})
    except (OSError, ValueError) as error:
      raise RunError(f"cannot write a checkpoint to {self.directory} ({error})") from None

  def restore(self, step: int, like: Any) -> Any:
    """The state saved at a step, with the structure, shapes and types of `like`.

    Raises:
      RunError: the checkpoint is damaged.
    """
    try:
      return self._manager.restore(step, args=ocp.args.StandardRestore(like))
    except Exception as error:  # whatever Orbax meets in a damaged file
      reason = textwrap.shorten(f"{type(error).__name__}: {error}", 160)
      raise RunError(f"the checkpoint of step {step} in {self.directory} cannot be read ({reason})") from None
