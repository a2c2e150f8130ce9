"""Runs the points of a sweep on local workers, until all are over."""

import contextlib
import dataclasses
import errno
import selectors
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from normjax import errors, stopping
from normjax.record import files
from normjax.record.directory import Attempts, RunState, SweepDirectory
from normjax.sweep import pool, schedule
from normjax.sweep.plan import Point

TICK_S = 0.2
# Below the 30 s that schedulers leave between SIGTERM and SIGKILL.
GRACE_S = 25.0
MAX_BAD_STARTS = 3

Report = Callable[..., None]


@dataclasses.dataclass
class Launcher:
  """Workers, and what they are at; kept from one stage to the next.

  Attributes:
    out: of the sweep.
    runner: "module:function", called as `runner(config, directory)`.
    num_workers: at most so many processes.
    cores: one group a worker, or None to pin none.
    retries: how often a failed point is tried again.
    lock: file descriptor that the workers inherit.
    attempts: where attempts are written.
    stopping: says whether a signal asked for the end.
    report: called as `report(event, point=…, …)`.
    failed: message by run id, of the points that failed for good.
  """

  out: Path
  runner: str
  num_workers: int
  cores: list[list[int]] | None
  retries: int
  lock: int
  attempts: Attempts
  stopping: Callable[[], bool]
  report: Report
  grace_s: float = GRACE_S
  failed: dict[str, str] = dataclasses.field(default_factory=dict)
  workers: list[pool.Worker] = dataclasses.field(default_factory=list)
  pending: list[Point] = dataclasses.field(default_factory=list)
  timings: schedule.Timings = dataclasses.field(
    default_factory=lambda: schedule.Timings({}, {})
  )
  _tries: dict[str, int] = dataclasses.field(default_factory=dict)
  _bad_starts: int = 0
  _selector: selectors.BaseSelector = dataclasses.field(
    default_factory=selectors.DefaultSelector
  )

  def run(self, points: Sequence[Point]) -> None:
    """Runs points until each is over, has failed for good, or a signal came.

    Raises:
      RunError: workers do not start.
    """
    self.pending = list(points)
    while (self.pending or self.running()) and not self.stopping():
      self._hire()
      self._assign()
      for key, _ in self._selector.select(TICK_S):
        self._listen(key.data)
      self.report("tick", launcher=self)

  def running(self) -> list[pool.Worker]:
    """The workers that are at a point."""
    return [worker for worker in self.workers if worker.point is not None]

  def close(self) -> None:
    """Ends the workers; those at a point may write a last checkpoint."""
    interrupted = [worker.point for worker in self.running()]
    try:
      pool.stop(self.workers, self.grace_s)
    finally:
      self._selector.close()
      self.workers.clear()
    for point in interrupted:
      self.attempts.add(point.run_id, RunState.INTERRUPTED)

  def _hire(self) -> None:
    """Starts workers, never more than there are points."""
    wanted = min(self.num_workers, len(self.pending) + len(self.running()))
    while len(self.workers) < wanted:
      slots = {worker.slot for worker in self.workers}
      slot = next(i for i in range(self.num_workers) if i not in slots)
      try:
        worker = pool.start(
          self.out,
          slot,
          self.cores[slot] if self.cores else None,
          self.runner,
          self.lock,
        )
      except OSError as error:
        if error.errno not in (errno.ENOMEM, errno.EAGAIN):
          raise
        self._settle_for_fewer(error.strerror, self.workers)
        return
      self.workers.append(worker)
      self._selector.register(
        worker.process.stdout, selectors.EVENT_READ, worker
      )

  def _assign(self) -> None:
    for worker in self.workers:
      if not worker.idle:
        continue
      point = schedule.choose(
        worker.program,
        worker.programs,
        self.pending,
        self.progress(),
        self.timings,
      )
      if point is None:
        continue
      self.pending.remove(point)
      directory = SweepDirectory(self.out).run(point.run_id)
      directory.set_result_aside()
      self.report("begun", point=point)
      worker.send(point, directory.path)

  def progress(self) -> list[schedule.Running]:
    """What the workers are at, as the schedule sees it."""
    now_s = time.monotonic()
    return [
      schedule.Running(
        worker.point.program,
        now_s - worker.started_s,
        worker.point.program not in worker.programs,
      )
      for worker in self.running()
    ]

  def _listen(self, worker: pool.Worker) -> None:
    for answer in worker.answers():
      event = answer["event"]
      if event == "ready":
        worker.ready = True
      elif event == "closed":
        self._bury(worker)
      else:
        self._settle(worker, answer)

  def _settle(self, worker: pool.Worker, answer: dict[str, Any]) -> None:
    """Books a worker's answer about its point."""
    point, worker.point = worker.point, None
    elapsed_s = time.monotonic() - worker.started_s
    if answer["event"] == "finished":
      directory = SweepDirectory(self.out).run(point.run_id)
      result, problem, _ = directory.read_result()
      if result is not None:
        worker.programs.add(point.program)
        self._time(point.program, elapsed_s, result)
        state = RunState(result["state"])
        self.attempts.add(point.run_id, state, wall_s=elapsed_s)
        self.report("over", point=point, result=result, elapsed_s=elapsed_s)
        return
      path = directory.path / files.RESULT
      message = problem or f"the run ended without {path}"
      self._fail(point, message, retry=True)
    elif answer["event"] == "failed":
      message, kind = answer["message"], answer.get("kind")
      if kind == "disk":
        # Every other point would meet the same disk.
        self.attempts.add(point.run_id, RunState.FAILED, message=message)
        raise errors.RunError(
          f"{message.rstrip('.')}. What is done is kept; the same command goes"
          " on from there."
        )
      if kind == "memory":
        # What is left of it is of no use to another point, and may hang.
        self._dismiss(worker)
        worker.kill()
      self._fail(point, message, retry=answer["retry"])
    else:
      self._fail(point, "a signal interrupted the worker", retry=True)

  def _bury(self, worker: pool.Worker) -> None:
    """Books the death of a worker; `_hire` replaces it."""
    self._dismiss(worker)
    # Its own end, not our SIGKILL, is what the message tells.
    with contextlib.suppress(subprocess.TimeoutExpired):
      worker.process.wait(5.0)
    worker.kill()
    if worker.point is not None:
      self._fail(worker.point, worker.epitaph(), retry=True)
    elif not worker.ready:
      self._bad_starts += 1
      if self._bad_starts >= MAX_BAD_STARTS:
        started = [each for each in self.workers if each.ready]
        self._settle_for_fewer(worker.epitaph(), started)

  def _dismiss(self, worker: pool.Worker) -> None:
    """Listens to a worker no more."""
    self._selector.unregister(worker.process.stdout)
    self.workers.remove(worker)

  def _settle_for_fewer(self, how: str, started: Sequence[pool.Worker]) -> None:
    """Goes on with the workers that did start, as where memory is short."""
    why = f"workers do not start: {how}."
    if not started:
      raise errors.RunError(f"{why} What is done is kept.")
    self.num_workers = len(self.workers)
    self._bad_starts = 0
    self.report("note", text=f"{why} Going on with {self.num_workers}.")

  def _fail(self, point: Point, message: str, *, retry: bool) -> None:
    tries = self._tries[point.run_id] = self._tries.get(point.run_id, 0) + 1
    self.attempts.add(point.run_id, RunState.FAILED, message=message)
    again = retry and tries <= self.retries
    if again:
      self.pending.append(point)
    else:
      self.failed[point.run_id] = message
    self.report("failed", point=point, message=message, again=again)

  def _time(self, program: str, elapsed_s: float, result: Any) -> None:
    compile_s = result.get("compile_s") or 0.0
    point_s = {k: list(v) for k, v in self.timings.point_s.items()}
    compiles_s = {k: list(v) for k, v in self.timings.compile_s.items()}
    point_s.setdefault(program, []).append(max(0.0, elapsed_s - compile_s))
    if compile_s:
      compiles_s.setdefault(program, []).append(compile_s)
    self.timings = schedule.Timings(point_s, compiles_s)


@contextlib.contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
  """Turns SIGINT, SIGTERM and SIGHUP into a flag that the launcher reads.

  A second signal raises KeyboardInterrupt, which ends the workers at once.
  Outside of the main thread the flag stays down.
  """
  received: list[int] = []

  def note(number: int, frame: Any) -> None:
    received.append(number)
    if len(received) > 1:
      raise KeyboardInterrupt

  with stopping.handled(note):
    yield lambda: bool(received)
