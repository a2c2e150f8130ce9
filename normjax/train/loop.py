"""The loop around the compiled step, for all lanes of one program."""

import contextlib
from collections.abc import Sequence
from typing import Protocol

from normjax import stopping
from normjax.train.lane import Lane


class Stepper(Protocol):
  """What computes for lanes that are at one step."""

  def evaluate(self, lanes: Sequence[Lane]) -> None:
    """Evaluates those whose evaluation is due."""
    ...

  def take_step(self, lanes: Sequence[Lane]) -> None:
    """Starts the next step of each."""
    ...

  def wait(self, lanes: Sequence[Lane]) -> None:
    """Returns when their steps are done."""
    ...


def train(lanes: Sequence[Lane], stepper: Stepper) -> None:
  """Trains lanes side by side until each has its result.

  A lane that diverges ends; the others go on. What a lane computes and writes
  does not depend on what the others are at. Where checkpoints of several
  steps were resumed, those that are behind catch up first.

  Args:
    lanes: of one program, and begun.
    stepper: computes for all of them.

  Raises:
    KeyboardInterrupt: a signal came; the states are saved, where checkpoints
      are on.
  """
  # From here on a signal finds the end of a step, and a checkpoint.
  with stopping.deferred():
    while going := _without_result(lanes):
      going = _furthest_behind(going)
      # THE ORDER IS THE CONTRACT (tests/train/test_loop.py): evaluate the
      # state, save it, take the step, log it. A checkpoint, its evaluation and
      # its step number then always speak of the same state, and every row that
      # describes a step before a checkpoint is on disk before that checkpoint.
      stepper.evaluate(going)
      is_stopping = stopping.asked()
      for lane in going:
        lane.save_if_due(is_stopping=is_stopping)
        lane.finish_if_over()
      left = _without_result(lanes)
      if is_stopping and left:
        raise KeyboardInterrupt
      going = _without_result(going)
      _take_steps(going, stepper, _steps_until_met(going, left))


def _take_steps(
  lanes: Sequence[Lane], stepper: Stepper, num_steps: int
) -> None:
  """Steps until something is due, a lane has diverged, or a signal came."""
  with contextlib.ExitStack() as clocks:
    for lane in lanes:
      clocks.enter_context(lane.recorder.clock.measure("train"))
      lane.recorder.timer.start(lane.step)
    for _ in range(num_steps):
      if stopping.asked():
        break
      stepper.take_step(lanes)  # Rows are fetched while the next step runs.
      if any(lane.diverged_at >= 0 for lane in lanes):
        break
    for lane in lanes:
      lane.log()
    stepper.wait(lanes)


def _without_result(lanes: Sequence[Lane]) -> list[Lane]:
  return [lane for lane in lanes if lane.recorder.result is None]


def _furthest_behind(lanes: Sequence[Lane]) -> list[Lane]:
  """Those that have taken the fewest steps."""
  least = min(lane.step for lane in lanes)
  return [lane for lane in lanes if lane.step == least]


def _steps_until_met(going: Sequence[Lane], lanes: Sequence[Lane]) -> int:
  """Steps before something is due, or one that is ahead is reached."""
  if not going:
    return 0
  step = going[0].step
  ahead = [lane.step - step for lane in lanes if lane.step > step]
  return min([*(lane.steps_until_due() for lane in going), *ahead])
