"""Lanes that their program moves one after the other, each by itself."""

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from normjax.train import evaluate
from normjax.train.lane import Lane, Own


class Alone:
  """Bit for bit what each lane gives where no other is there."""

  def evaluate(self, lanes: Sequence[Lane]) -> None:
    """Evaluates those whose evaluation is due."""
    for lane in lanes:
      if lane.begin_evaluation():
        with contextlib.suppress(evaluate.Stopped):  # The loop sees what came.
          lane.take_evaluation(_measure(lane))

  def take_step(self, lanes: Sequence[Lane]) -> None:
    """Starts the next step of each."""
    for lane in lanes:
      program = lane.program
      with lane.traced(functools.partial(self.wait, [lane])):
        batch = lane.fetched(_put(lane), lane.held.state.step)
        state, metrics = program.step(lane.held.state, batch, lane.hyper)
        lane.held = Own(state)
      if program.layout.one_at_a_time:
        jax.block_until_ready(metrics)
      lane.took_step(functools.partial(_to_host, metrics))

  def wait(self, lanes: Sequence[Lane]) -> None:
    """Returns when their steps are done."""
    jax.block_until_ready([lane.held.state for lane in lanes])


def _put(lane: Lane) -> Callable[[], Any]:
  """Makes the batch of the next step, on the devices."""
  return lambda: lane.program.layout.put_batch(lane.batch(), lane.rows)


def _measure(lane: Lane) -> evaluate.Measured:
  with lane.recorder.clock.measure("eval"):
    return evaluate.measure(
      lane.program,
      lane.held.state,
      lane.evaluated,
      lane.hyper,
      lane.config.evaluate,
      corrupted=lane.is_last,
    )


def _to_host(metrics: Mapping[str, jax.Array]) -> dict[str, float]:
  return {name: float(v) for name, v in jax.device_get(metrics).items()}
