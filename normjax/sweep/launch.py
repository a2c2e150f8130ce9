"""Runs the points of a sweep on an executor, until all are over.

Here is what a sweep does about whatever happens, wherever its runs are: which
point is next, what is tried again and how often, what is booked as an attempt,
and what ends the sweep.

| what happened | what is done |
|---|---|
| a run left a result, diverged or not | the point is over |
| a run failed, or left no result | tried again, `retries` times |
| bad input | never tried again |
| out of memory | the slot is started anew; tried again |
| it, or a death, with several points | tried again in halves, not counted |
| a disk's fault | the sweep ends: every other run would meet it |
| a slot died | started anew; what ran there is tried again |
| the place took a slot back | likewise, and no attempt is counted |
| slots do not start | the sweep goes on with fewer |
| another launcher has the point | waited for; run where that one is gone |
| another launcher took the point over | its slot is ended; as above |
| a signal | running points may write a last checkpoint; then the sweep ends |
"""

import time
from collections.abc import Callable, Sequence

from normjax import errors
from normjax.record import files
from normjax.record.directory import Attempts, RunState, SweepDirectory
from normjax.record.lease import Leases
from normjax.sweep import schedule
from normjax.sweep.elsewhere import Elsewhere
from normjax.sweep.executor import (
  Began,
  Cause,
  Died,
  End,
  Event,
  Executor,
  Failed,
  Finished,
  Lane,
  NoRoomError,
  Note,
  Preempted,
  Ready,
)
from normjax.sweep.lists import Lists
from normjax.sweep.plan import Point
from normjax.sweep.slot import Slot
from normjax.sweep.watcher import Watcher

TICK_S = 0.2
# Below the 30 s that schedulers leave between SIGTERM and SIGKILL.
GRACE_S = 25.0
MAX_BAD_STARTS = 3


class Launcher:
  """Slots, and what they are at; kept from one stage to the next.

  Attributes:
    failed: message by run id, of the points that failed for good.
    pending: points that no slot has.
    elsewhere: points that other launchers have.
    given: run ids of the points that slots were given, over or not.
    slots: those started, by number.
    timings: of the points that are over.
    num_slots: at most so many.
    grace_s: for last checkpoints, when it is stopped.
    stopping: says whether a signal asked for the end.
  """

  def __init__(
    self,
    executor: Executor,
    *,
    directory: SweepDirectory,
    leases: Leases,
    num_slots: int,
    retries: int,
    attempts: Attempts,
    stopping: Callable[[], bool],
    watcher: Watcher,
    grace_s: float = GRACE_S,
    max_lanes: int = 1,
  ):
    """Starts nothing yet.

    Args:
      executor: where runs happen.
      directory: of the sweep.
      leases: which points are this launcher's.
      num_slots: see above, like `stopping` and `grace_s`.
      retries: how often a failed point is tried again.
      attempts: where attempts are booked.
      stopping: see above.
      watcher: is told what happens.
      grace_s: see above.
      max_lanes: points of one program that a slot is given at once.
    """
    self.num_slots = num_slots
    self.stopping = stopping
    self.grace_s = grace_s
    self.failed: dict[str, str] = {}
    self.pending: list[Point] = []
    self.elsewhere = Elsewhere(directory, leases)
    self.given: set[str] = set()
    self.slots: dict[int, Slot] = {}
    self.timings = schedule.Timings({}, {})
    self._executor = executor
    self._directory = directory
    self._retries = retries
    self._attempts = attempts
    self._watcher = watcher
    self._lists = Lists(max_lanes)
    self._num_failures: dict[str, int] = {}
    self._bad_starts = 0

  def run(self, points: Sequence[Point]) -> None:
    """Runs points until each is over, has failed for good, or a signal came.

    Raises:
      RunError: slots do not start, or a folder cannot be used.
    """
    # First of all, so that no slot is started for what it may not run.
    self.pending = [p for p in points if not self.elsewhere.has(p)]
    while self.pending or self.running() or self.elsewhere:
      if self.stopping():
        return
      self._check_found()
      self._start_slots()
      self._submit_points()
      for event in self._executor.events(TICK_S):
        self._handle(event)
      self._look_elsewhere()
      self._watcher.tick(self)

  def _check_found(self) -> None:
    """Raises RunError where the sweep's folder is not there any more."""
    try:
      self.elsewhere.check_found()
    except errors.RunError:
      self.grace_s = 0.0  # What would be written makes a folder anew.
      raise

  def running(self) -> list[Point]:
    """The points that slots have."""
    return [p for slot in self.slots.values() for p in slot.points.values()]

  def progress(self) -> list[schedule.Running]:
    """What the slots are at, as the schedule sees it."""
    now_s = time.monotonic()
    return [
      schedule.Running(
        slot.program, now_s - slot.since_s, slot.program not in slot.compiled
      )
      for slot in self.slots.values()
      if slot.program is not None and slot.points
    ]

  def stop(self) -> None:
    """Ends the slots; points under way may write a last checkpoint.

    A point that still ended is booked as such, another that had begun as
    interrupted.
    """
    try:
      for event in self._executor.stop(self.grace_s):
        # Whatever else is said, the slot is gone.
        if isinstance(event, Began | Finished) and self._is_due(event):
          self._handle(event)
    finally:
      begun = [run_id for slot in self.slots.values() for run_id in slot.begun]
      self.slots.clear()
      for run_id in begun:
        self._attempts.add(run_id, RunState.INTERRUPTED)

  def _start_slots(self) -> None:
    """Starts slots, never more than there are points."""
    wanted = min(self.num_slots, len(self.pending) + len(self.running()))
    while len(self.slots) < wanted:
      number = next(i for i in range(self.num_slots) if i not in self.slots)
      try:
        self._executor.start(number)
      except NoRoomError as error:
        self._go_on_with_fewer(str(error), list(self.slots.values()))
        return
      self.slots[number] = Slot()

  def _submit_points(self) -> None:
    """Gives each idle slot the points that the schedule has for it."""
    for number, slot in self.slots.items():
      if not slot.idle:
        continue
      points = self._choose(slot)
      if not points:
        continue
      slot.give(points)
      self.given |= slot.points.keys()
      self._executor.submit(number, [self._lane(point) for point in points])

  def _list_size(self, program: str) -> int:
    """Points of a program that a slot is given at once."""
    num_left = len(self.pending) + len(self.running())
    return self._lists.size(program, num_left, self.num_slots)

  def _choose(self, slot: Slot) -> list[Point]:
    """Takes points for a slot; those that others have are put aside."""
    while points := schedule.choose(
      slot.program,
      slot.compiled,
      self.pending,
      self.progress(),
      self.timings,
      self._list_size,
    ):
      for point in points:
        self.pending.remove(point)
      if mine := [point for point in points if self.elsewhere.take(point)]:
        return mine
    return []

  def _look_elsewhere(self) -> None:
    """Sees what other launchers have done, and what of ours they took."""
    for run_id, lease in self.elsewhere.lost():
      for number, slot in list(self.slots.items()):
        if point := slot.points.get(run_id):
          self._executor.end(number)
          del self.slots[number]
          self._lose(point, lease.launcher if lease else None)
          others = [p for p in slot.points.values() if p is not point]
          self.pending += others
    for point, seen in self.elsewhere.look():
      if isinstance(seen, str):
        self.failed[point.run_id] = seen
        self._watcher.failed(point, seen, again=False)
      elif seen is None:
        self.pending.append(point)
      else:
        self._watcher.over(point, seen, seen.get("wall_s") or 0.0)
    if not (self.pending or self.running()) and (
      said := self.elsewhere.waiting()
    ):
      self._watcher.note(said)

  def _lose(self, point: Point, launcher: object) -> None:
    """Leaves a point to the launcher that has taken it over."""
    by = f" by {launcher}" if launcher else ""
    self._watcher.note(f"run {point.run_id} was taken over{by}")
    self.given.discard(point.run_id)
    self.elsewhere.add(point)

  def _lane(self, point: Point) -> Lane:
    """A point as the executor gets it."""
    directory = self._directory.run(point.run_id)
    directory.set_result_aside()
    most = self._lists.most(point.program)
    return Lane(point.run_id, point.config, directory.path, most)

  def _handle(self, event: Event) -> None:
    """Does what an event asks for."""
    if isinstance(event, Note):
      self._watcher.note(event.text)
      return
    slot = self.slots[event.slot]
    if isinstance(event, Ready):
      slot.ready = True
    elif isinstance(event, Died):
      self._replace(event)
    elif not self._is_due(event):
      self._executor.end(event.slot)
      what = f"the worker told of run {event.run_id}, which it did not have"
      self._replace(Died(event.slot, what))
    elif isinstance(event, Began):
      slot.begun.append(event.run_id)
      slot.since_s = time.monotonic()
    else:
      self._take_end(slot, event)

  def _is_due(self, event: Began | End) -> bool:
    """Whether the slot has the run, which begins no more than once."""
    slot = self.slots[event.slot]
    is_again = isinstance(event, Began) and event.run_id in slot.begun
    return event.run_id in slot.points and not is_again

  def _take_end(self, slot: Slot, event: End):
    """Does what the end of a run asks for."""
    has_begun = event.run_id in slot.begun
    if has_begun:
      slot.begun.remove(event.run_id)
    point = slot.points.pop(event.run_id)
    if isinstance(event, Finished):
      self._take_result(slot, point, event.wall_s)
    elif isinstance(event, Failed):
      self._take_failure(event, point)
    else:
      slot.ending = True
      is_preempted = isinstance(event, Preempted)
      if is_preempted or not has_begun:
        self.pending.append(point)
      if has_begun and (is_preempted or self.stopping()):
        self._attempts.add(point.run_id, RunState.INTERRUPTED)
      elif has_begun:
        self._fail(point, "a signal interrupted the worker")

  def _take_result(self, slot: Slot, point: Point, wall_s: float) -> None:
    """Books what a run has left."""
    directory = self._directory.run(point.run_id)
    result, problem, _ = directory.read_result()
    if result is None:
      path = directory.path / files.RESULT
      self._fail(point, problem or f"the run ended without {path}")
      return
    self.elsewhere.end(point)
    slot.compiled.add(point.program)
    compile_s = result.get("compile_s") or 0.0
    self.timings = self.timings.add(point.program, wall_s, compile_s)
    self._attempts.add(point.run_id, RunState(result["state"]), wall_s=wall_s)
    self._watcher.over(point, result, wall_s)

  def _take_failure(self, event: Failed, point: Point) -> None:
    """Books a run's failure, and does what its cause asks for.

    Raises:
      RunError: the disk is at fault.
    """
    if event.cause == Cause.BUSY and not self.elsewhere.holds(point):
      self._lose(point, None)
      return
    if event.cause == Cause.DISK:
      self._attempts.add(point.run_id, RunState.FAILED, message=event.message)
      raise errors.RunError(
        f"{event.message.rstrip('.')}. What is done is kept; the same command"
        " goes on from there."
      )
    if event.cause == Cause.MEMORY:
      # What is left of it is of no use to another point, and may hang.
      self._executor.end(event.slot)
      slot = self.slots.pop(event.slot)
      beside = [slot.points[run_id] for run_id in slot.begun]
      self.pending += [p for p in slot.points.values() if p not in beside]
      self._fail_together([point, *beside], event.message)
    else:
      self._fail(point, event.message, retry=event.cause != Cause.INPUT)

  def _replace(self, event: Died) -> None:
    """Books the death of a slot; another is started in its place."""
    slot = self.slots.pop(event.slot)
    blamed = slot.blamed()
    self.pending += [p for p in slot.points.values() if p not in blamed]
    self._fail_together(blamed, event.message)
    if not slot.ready:
      self._bad_starts += 1
      if self._bad_starts >= MAX_BAD_STARTS:
        started = [each for each in self.slots.values() if each.ready]
        self._go_on_with_fewer(event.message, started)

  def _go_on_with_fewer(self, why: str, started: Sequence[Slot]) -> None:
    """Goes on with the slots that did start, as where memory is short.

    Raises:
      RunError: none did.
    """
    why = f"workers do not start: {why}."
    if not started:
      raise errors.RunError(f"{why} What is done is kept.")
    self.num_slots = len(self.slots)
    self._bad_starts = 0
    self._watcher.note(f"{why} Going on with {self.num_slots}.")

  def _fail_together(self, points: Sequence[Point], message: str) -> None:
    """Books what points met side by side; shorter lists may not meet it."""
    if len(points) < 2:
      for point in points:
        self._fail(point, message)
      return
    self._watcher.note(self._lists.halve(points, message))
    for point in points:
      self._attempts.add(point.run_id, RunState.FAILED, message=message)
    self.pending += points

  def _fail(self, point: Point, message: str, *, retry: bool = True) -> None:
    """Books a failed attempt; the point waits for another, or is given up."""
    count = self._num_failures.get(point.run_id, 0) + 1
    self._num_failures[point.run_id] = count
    self._attempts.add(point.run_id, RunState.FAILED, message=message)
    again = retry and count <= self._retries
    if again:
      self.pending.append(point)
    else:
      self.failed[point.run_id] = message
      self.elsewhere.give_up(point, message)
    self._watcher.failed(point, message, again)
