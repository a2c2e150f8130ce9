"""Seconds by activity, kept in checkpoints, and of single steps."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

_PER_STEP = "_per_step"
# Of the training time, and in all; less is not worth a word.
SAID_DATA_WAIT_SHARE, SAID_DATA_WAIT_S = 0.05, 1.0


class Clock:
  """Seconds by activity, summed over all the processes of one run.

  "data_wait" is a part of "train": the devices had nothing to do.
  """

  def __init__(self, seconds: Mapping[str, float] | None = None):
    """Starts from the seconds that an earlier process left."""
    activities = "train", "eval", "compile", "data_wait"
    self._seconds = dict.fromkeys(activities, 0.0)
    self._seconds.update(seconds or {})
    self._running: tuple[str, float] | None = None

  @contextlib.contextmanager
  def measure(self, activity: str) -> Iterator[None]:
    """Adds the block's wall time to `activity`; blocks do not nest."""
    self._running = (activity, time.perf_counter())
    try:
      yield
    finally:
      self._seconds[activity] = self[activity]
      self._running = None

  def add(self, activity: str, elapsed_s: float) -> None:
    """Adds seconds to `activity`."""
    self._seconds[activity] += elapsed_s

  def __getitem__(self, activity: str) -> float:
    """Seconds spent on `activity` until now."""
    running_s = 0.0
    if self._running is not None and self._running[0] == activity:
      running_s = time.perf_counter() - self._running[1]
    return self._seconds[activity] + running_s

  @property
  def data_wait_share(self) -> float | None:
    """Of the training time; None before there is any."""
    train_s = self["train"]
    return self["data_wait"] / train_s if train_s else None

  def to_dict(self) -> dict[str, float]:
    """What a checkpoint keeps."""
    return {activity: self[activity] for activity in self._seconds}


def waited_share(result: Mapping[str, Any]) -> float:
  """The part of the training time that a run waited for data.

  Args:
    result: of `result.json`.

  Returns:
    0 where it is not worth a word, or not known.
  """
  share = result.get("data_wait_share") or 0.0
  is_long = (result.get("data_wait_s") or 0.0) > SAID_DATA_WAIT_S
  return share if is_long and share > SAID_DATA_WAIT_SHARE else 0.0


def rates(
  work: Mapping[str, float | None], step_s: float | None
) -> dict[str, float]:
  """Per second what a step goes through: `x_per_step` / s is `x_per_s`.

  Where the devices' peak is known, so is `mfu`, the part of it that the model's
  own operations are (arXiv:2204.02311, appendix B).

  Args:
    work: of one step, as "examples_per_step", and "peak_flops_per_s"; None is
      not known.
    step_s: of a step; without one there are no rates.
  """
  if not step_s:
    return {}
  found = {
    f"{name.removesuffix(_PER_STEP)}_per_s": amount / step_s
    for name, amount in work.items()
    if amount is not None and name.endswith(_PER_STEP)
  }
  peak, own = work.get("peak_flops_per_s"), found.get("model_flops_per_s")
  return found | ({"mfu": own / peak} if peak and own else {})


class StepTimer:
  """Wall time of a step, from one row to the next.

  Attributes:
    each_s: a mean over the steps between two rows, per row.
  """

  def __init__(self):
    """Nothing was timed yet."""
    self.each_s: list[float] = []
    self._mark_step, self._mark_s = 0, 0.0

  @property
  def newest_s(self) -> float | None:
    """The last of `each_s`."""
    return self.each_s[-1] if self.each_s else None

  def start(self, step: int) -> None:
    """Starts anew, before `step` is taken."""
    self._mark_step, self._mark_s = step, time.perf_counter()

  def lap(self, step: int) -> None:
    """The row of `step` is there."""
    now_s = time.perf_counter()
    if step > self._mark_step:
      elapsed_s = now_s - self._mark_s
      self.each_s.append(elapsed_s / (step - self._mark_step))
    self._mark_step, self._mark_s = step, now_s
