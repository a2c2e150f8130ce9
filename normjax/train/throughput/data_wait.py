"""How long the devices wait for data."""

import concurrent.futures
import functools
import time
from collections.abc import Callable
from typing import Any

# Of a batch that comes faster it is not worth a thread to know when, meanwhile,
# the devices came to an end.
_LONG_S = 2e-3


class DataWait:
  """Makes batches, and counts the seconds in which devices wait for them.

  A batch is made while the devices take the step before, and costs no time if
  it is there before they are done. When they were is seen by a thread that
  waits for them; where batches come in less than two milliseconds nobody looks,
  and a batch that came too late counts in full.
  """

  def __init__(self):
    """Nothing was made yet."""
    self._is_long = False

  def fetch(self, make: Callable[[], Any], running: Any) -> tuple[Any, float]:
    """A batch, and for how long the devices had nothing to do meanwhile.

    Args:
      make: the batch.
      running: an array of the last step that the devices were given.
    """
    start_s = time.perf_counter()
    watched = None
    if self._is_long and not running.is_ready():
      watched = _watcher().submit(_end_s, running)
    batch = make()
    end_s = time.perf_counter()
    self._is_long = end_s - start_s > _LONG_S
    if not running.is_ready():
      return batch, 0.0
    idle_s = start_s if watched is None else watched.result()
    return batch, max(0.0, end_s - max(start_s, idle_s))


def _end_s(running: Any) -> float:
  running.block_until_ready()
  return time.perf_counter()


@functools.cache
def _watcher() -> concurrent.futures.ThreadPoolExecutor:
  return concurrent.futures.ThreadPoolExecutor(1, "data_wait")
