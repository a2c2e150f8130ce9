"""Seconds of a call: many calls in a row, since a device works behind.

Beside them, on a GPU, those that its kernels took, as the profiler has them:
what is between the two the device waited.
"""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

from kernels_pallas.bench import timed as device_clock

_ROUNDS = 5
_ROUND_S = 0.1
_MOST_CALLS = 200
_PROFILED_CALLS = 5


def timed(run: Callable[[int], float]) -> dict[str, Any]:
  """The median over rounds of `run(n) / n`, and all rounds.

  Args:
    run: from a number of calls to the seconds that they took.
  """
  run(2)  # What only first calls pay.
  count = max(1, math.ceil(_ROUND_S / max(run(2) / 2, 1e-6)))
  count = min(count, _MOST_CALLS)
  rounds = [run(count) / count for _ in range(_ROUNDS)]
  return {"seconds": statistics.median(rounds), "rounds_s": rounds}


def measure(found: dict[str, Any], run: Callable[[int], float]) -> None:
  """Adds to a result what `timed` finds, and then `device_s`.

  In this order: a profiler that fails takes no time away. `device_s` is the
  median over calls, None where there is no GPU.
  """
  found |= timed(run)
  seconds = device_clock.profiled_s(run, _PROFILED_CALLS)
  found["device_s"] = statistics.median(seconds) if seconds else None


def calls(
  function: Callable[..., Any], sets: Sequence[Sequence[Any]]
) -> Callable[[int], float]:
  """Calls on sets of arguments in turn, so that a cache does not hold them."""

  def run(count: int) -> float:
    start_s, out = time.perf_counter(), None
    for index in range(count):
      out = function(*sets[index % len(sets)])
    jax.block_until_ready(out)
    return time.perf_counter() - start_s

  return run


def peak_bytes() -> int | None:
  """The most that was in use on the device, where it says so."""
  found = jax.devices()[0].memory_stats() or {}
  return found.get("peak_bytes_in_use")
