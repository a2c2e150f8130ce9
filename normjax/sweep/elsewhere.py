"""Which points other launchers of the same sweep have, and what became of them.

Launchers agree on nothing but leases and results: each plans alone, from the
same files.
"""

import os
import time
from collections.abc import Iterator
from typing import Any

from normjax import errors
from normjax.record.directory import SweepDirectory
from normjax.record.heartbeat import EXPIRY_S
from normjax.record.lease import Lease, Leases, Word
from normjax.sweep.points import Point, Result

LOOK_S = 1.0


class Elsewhere:
  """The points of a launcher that it may not run now."""

  def __init__(self, directory: SweepDirectory, leases: Leases):
    """Knows of none yet.

    Args:
      directory: of the sweep.
      leases: the launcher's own, and what it sees of the others'.
    """
    self._directory = directory
    self._leases = leases
    self._points: dict[str, Point] = {}
    self._told: frozenset[str] = frozenset()
    # Found in the moment in which they were to be run.
    self._ended: list[tuple[Point, Result]] = []
    self._looked_s = 0.0

  def check_found(self) -> None:
    """Raises RunError where the sweep's folder is not there any more."""
    self._leases.check_found()

  def __bool__(self) -> bool:
    """Whether there are any."""
    return bool(self._points or self._ended)

  def has(self, point: Point) -> bool:
    """Whether another launcher that works has the point; it is kept here."""
    is_there = self._leases.holder(point.run_id) is not None
    if is_there:
      self._points[point.run_id] = point
    return is_there

  def take(self, point: Point) -> bool:
    """Takes the point's lease; one that another launcher has is kept here."""
    if self._leases.take(point.run_id) is not None:
      self._points[point.run_id] = point
      return False
    # Between the plan and the lease another launcher may have ended it.
    if (result := self._result(point)) is not None:
      self._leases.forget(point.run_id)
      self._ended.append((point, result))
      return False
    return True

  def end(self, point: Point) -> None:
    """The point has its result."""
    self._leases.forget(point.run_id)

  def give_up(self, point: Point, message: str) -> None:
    """This launcher does not try the point again, nor do others meanwhile."""
    self._leases.release(point.run_id, given_up=message)

  def holds(self, point: Point) -> bool:
    """Whether the point is still this launcher's."""
    return self._leases.holds(point.run_id)

  def add(self, point: Point) -> None:
    """A point that was taken over."""
    self._points[point.run_id] = point

  def lost(self) -> list[tuple[str, Lease | None]]:
    """Run ids of points that were taken over since the last call, and how."""
    return list(self._leases.lost().items())

  def waiting(self) -> str:
    """Whom a launcher with nothing else to do waits for, once each; or ""."""
    leases = [self._leases.holder(run_id) for run_id in self._points]
    names = [str(x.launcher or "another launcher") for x in leases if x]
    new = frozenset(names) - self._told
    if not new:
      return ""
    self._told |= new
    plural = "s" * (len(names) != 1)
    return (
      f"waiting for {len(names)} run{plural} of {errors.few(sorted(new))};"
      f" without a sign of life for {EXPIRY_S:g} s what it has is run here"
    )

  def look(self) -> Iterator[tuple[Point, Result | str | None]]:
    """The points that are over, given up, or free again, now and then.

    Yields:
      A point, and its result; or why it was given up; or None: it is free.
    """
    ended, self._ended = self._ended, []
    now_s = time.monotonic()
    if now_s - self._looked_s >= LOOK_S:
      self._looked_s = now_s
      for point in list(self._points.values()):
        seen = self._see(point)
        if not isinstance(seen, Lease):
          del self._points[point.run_id]
          if seen is None or isinstance(seen, str):
            yield point, seen
          else:
            ended.append((point, seen))
    yield from ended

  def _see(self, point: Point) -> Any:
    """A result, why it was given up, None where it is free, or the lease."""
    if (result := self._result(point)) is not None:
      return result
    lease = self._leases.holder(point.run_id)
    if lease is not None and lease.word is Word.GIVEN_UP:
      return lease.message
    return lease

  def _result(self, point: Point) -> Result | None:
    """The point's result, also one that another machine has just written."""
    directory = self._directory.run(point.run_id)
    try:
      # Such a file system remembers which names were not there; whoever opens
      # their folder makes it ask again.
      os.scandir(directory.path).close()
    except FileNotFoundError:
      return None
    return directory.read_result().value
