"""The run's clocks: training, evaluation, compilation; kept in checkpoints."""

import contextlib
import time
from collections.abc import Iterator


class Clock:
  """Seconds by activity, summed over all the processes of one run."""

  def __init__(self, seconds: dict[str, float] | None = None):
    """Starts from the seconds that an earlier process left."""
    self._seconds = {"train": 0.0, "eval": 0.0, "compile": 0.0}
    self._seconds.update(seconds or {})

  @contextlib.contextmanager
  def measure(self, activity: str) -> Iterator[None]:
    """Adds the block's wall time to `activity`."""
    start_s = time.perf_counter()
    try:
      yield
    finally:
      self.add(activity, time.perf_counter() - start_s)

  def add(self, activity: str, elapsed_s: float) -> None:
    """Adds seconds to `activity`."""
    self._seconds[activity] += elapsed_s

  def __getitem__(self, activity: str) -> float:
    """Seconds spent on `activity`."""
    return self._seconds[activity]

  def to_dict(self) -> dict[str, float]:
    """What a checkpoint keeps."""
    return dict(self._seconds)
