"""Orbax checkpoints of {state, clock}: whole, or not there.

The newest one that restores is used; one that does not is set aside with a
message, and the run goes on from the one before it.
"""

import contextlib
import errno
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp

from normjax.train.state import State

_LOG = logging.getLogger(__name__)


class Checkpoints:
  """The checkpoints of one run directory."""

  def __init__(self, directory: Path, keep: int):
    """Opens the directory, creating it where missing.

    Args:
      directory: of this run alone.
      keep: how many of the newest stay.
    """
    options = ocp.CheckpointManagerOptions(
      max_to_keep=keep,
      # Whether to save is decided by the loop.
      save_interval_steps=1,
      enable_async_checkpointing=True,
    )
    self._directory = directory.absolute()
    self._manager = ocp.CheckpointManager(self._directory, options=options)

  def save(self, state: State, clock: dict[str, float]) -> None:
    """Starts writing; returns before it is durable.

    Args:
      state: buffers that no later step overwrites.
      clock: seconds by activity.
    """
    with self._full_disk():
      self._manager.save(
        int(state.step),
        args=ocp.args.Composite(
          state=ocp.args.StandardSave(state._asdict()),
          clock=ocp.args.JsonSave(clock),
        ),
      )

  def restore(
    self, abstract_state: State
  ) -> tuple[State, dict[str, Any], list[str]] | None:
    """The newest whole checkpoint: (state, clock, problems met); or None."""
    problems = []
    for step in sorted(self._manager.all_steps(), reverse=True):
      try:
        found = self._manager.restore(
          step,
          args=ocp.args.Composite(
            state=ocp.args.StandardRestore(abstract_state._asdict()),
            clock=ocp.args.JsonRestore(),
          ),
        )
      # Whatever a damaged file makes the readers below Orbax raise, the
      # answer is the same: say so, use the one before.
      except Exception as error:
        aside = self._directory.with_name(f"ckpt-unreadable-{step}")
        problems.append(
          f"checkpoint {step} cannot be read and was moved to {aside.name}:"
          f" {type(error).__name__}: {str(error).splitlines()[0][:200]}"
        )
        _LOG.warning(problems[-1])
        shutil.rmtree(aside, ignore_errors=True)
        (self._directory / str(step)).rename(aside)
        self._manager.reload()
      else:
        return State(**found["state"]), found["clock"], problems
    if problems:
      problems.append("no whole checkpoint is left; starting over")
      _LOG.warning(problems[-1])
    return None

  def close(self) -> None:
    """Waits for what is being written."""
    with self._full_disk():
      self._manager.wait_until_finished()
      self._manager.close()

  @contextlib.contextmanager
  def _full_disk(self) -> Iterator[None]:
    """TensorStore's ValueError about a full disk as the OSError that it is."""
    try:
      yield
    except ValueError as error:
      if "No space left on device" not in str(error):
        raise
      raise OSError(
        errno.ENOSPC, "No space left on device", str(self._directory)
      ) from error
