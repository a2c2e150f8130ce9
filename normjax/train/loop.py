"""The loop around the compiled step, for all lanes of one program."""

import contextlib
from collections.abc import Sequence

import jax

from normjax import stopping
from normjax.train.lane import Lane


def train(lanes: Sequence[Lane]) -> None:
  """Trains lanes side by side until each has its result.

  A lane that diverges ends; the others go on. What a lane computes and writes
  does not depend on who is beside it.

  Args:
    lanes: of one program, and begun.

  Raises:
    KeyboardInterrupt: a signal came; the states are saved, where checkpoints
      are on.
  """
  # From here on a signal finds the end of a step, and a checkpoint.
  with stopping.deferred():
    while going := _without_result(lanes):
      # THE ORDER IS THE CONTRACT (tests/train/test_loop.py): evaluate the
      # state, save it, take the step, log it. A checkpoint, its evaluation and
      # its step number then always speak of the same state, and every row that
      # describes a step before a checkpoint is on disk before that checkpoint.
      for lane in going:
        lane.evaluate_if_due()
      is_stopping = stopping.asked()
      for lane in going:
        lane.save_if_due(is_stopping=is_stopping)
        lane.finish_if_over()
      going = _without_result(going)
      if is_stopping and going:
        raise KeyboardInterrupt
      _take_steps(going)


def _take_steps(lanes: Sequence[Lane]) -> None:
  """Steps until something is due, a lane has diverged, or a signal came."""
  with contextlib.ExitStack() as clocks:
    for lane in lanes:
      clocks.enter_context(lane.recorder.clock.measure("train"))
      lane.recorder.timer.start(lane.step)
    for _ in range(min((lane.steps_until_due() for lane in lanes), default=0)):
      if stopping.asked():
        break
      for lane in lanes:
        lane.take_step()  # Its row is fetched while the next step runs.
      if any(lane.diverged_at >= 0 for lane in lanes):
        break
    for lane in lanes:
      lane.log()
    jax.block_until_ready([lane.state for lane in lanes])


def _without_result(lanes: Sequence[Lane]) -> list[Lane]:
  return [lane for lane in lanes if lane.recorder.result is None]
