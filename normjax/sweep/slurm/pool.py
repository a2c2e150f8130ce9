"""The executor whose slots are jobs of a SLURM cluster; see the package."""

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from normjax.record.directory import SweepDirectory
from normjax.sweep import protocol
from normjax.sweep.executor import (
  Cause,
  Died,
  Event,
  Failed,
  Finished,
  Interrupted,
  Lane,
  Note,
  Preempted,
  Ready,
)
from normjax.sweep.slurm import cluster, launchers
from normjax.sweep.slurm.job import Job
from normjax.sweep.slurm.options import Options
from normjax.sweep.slurm.seat import Seat
from normjax.sweep.slurm.spool import Spool, What

# So often is a run sent back from the same step before that is its failure.
MAX_STALLS = 3
# A job that was asked to leave has this on top of what its runs are given.
LATE_S = 10.0
_ENDS = (Finished, Failed, Interrupted)


class SlurmPool:
  """Jobs of a SLURM cluster; see `Executor`.

  Attributes:
    options: what each job asks for.
    poll_s: between two looks at what the jobs have answered.
    ask_s: between two questions to SLURM about all of them.
  """

  same_machine = False
  options = Options()
  poll_s = 0.5
  ask_s = 10.0

  def __init__(self, *, out: Path, runner: str, num_slots: int, lock: int):
    """Submits nothing yet; of the lock, jobs read whose they are.

    Raises:
      UserError: there is no SLURM here, or no submitit.
    """
    cluster.check()
    cluster.check_folder(out)
    self._runner = runner
    self._directory = SweepDirectory(out)
    self._seats: dict[int, Seat] = {}
    self._notes: list[Event] = []
    self._stalls: dict[str, tuple[int, int]] = {}
    self._num_jobs = 0
    self._read_s = self._asked_s = float("-inf")
    self._is_silent = False
    self._launcher = launchers.Launcher(out, lock)

  @staticmethod
  def default_num_slots() -> int:
    """A number that few queues mind."""
    return 8

  @classmethod
  def script(cls, out: Path) -> str:
    """The script that sbatch would be given for a slot; nothing is written."""
    cluster.check_folder(out)
    name = launchers.name(out)
    folder = out / launchers.FOLDER / name / "0-1"
    return cluster.script(folder, name, cls.options)

  def start(self, slot: int) -> None:
    """Submits a job, or has the one that the slot has start a worker.

    Raises:
      NoRoomError: sbatch refuses the job.
    """
    seat = self._seats.get(slot)
    if seat is None:
      self._launcher.claim()
      self._seats[slot] = self._submit(slot)
      return
    # Also where it waits in the queue: it may have begun since it was asked.
    seat.say(What.START)
    seat.since = seat.number
    seat.is_open = True

  def submit(self, slot: int, lanes: Sequence[Lane]) -> None:
    """Writes the request for the job to read."""
    # The job may begin in another folder.
    lanes = [
      dataclasses.replace(lane, directory=lane.directory.absolute())
      for lane in lanes
    ]
    seat = self._seats[slot]
    seat.lanes = {lane.run_id: lane for lane in lanes}
    seat.say(What.RUN, protocol.write_request(lanes))

  def events(self, timeout_s: float) -> Iterator[Event]:
    """What the jobs say, and what SLURM says of them."""
    if not self._notes:
      now_s = time.monotonic()
      time.sleep(max(0.0, min(timeout_s, self._read_s + self.poll_s - now_s)))
    while self._notes:
      yield self._notes.pop(0)
    if time.monotonic() - self._read_s < self.poll_s:
      return
    # Asked before the answers are read: what a job that is over has said is
    # there to be read.
    were_ready = {slot for slot, s in self._seats.items() if s.is_ready}
    states = self._ask()
    for seat in list(self._seats.values()):
      yield from self._read(seat)
      if states is not None:
        state = states.get(seat.job_id, cluster.UNKNOWN)
        yield from self._judge(seat, state, seat.slot in were_ready)
    self._read_s = time.monotonic()

  def end(self, slot: int) -> None:
    """Ends the job's worker; the job is kept for another."""
    seat = self._seats[slot]
    seat.say(What.END)
    seat.since = seat.number
    seat.close()

  def stop(self, grace_s: float) -> list[Event]:
    """Lets jobs that run leave in order, and cancels those that do not."""
    said: list[Event] = []
    leaving = {}
    try:
      if grace_s:
        for slot, seat in self._seats.items():
          if seat.is_ready:
            seat.say(What.LEAVE, grace_s=grace_s)
            leaving[slot] = seat
      waiting = [s for s in self._seats.values() if s.slot not in leaving]
      cluster.cancel(seat.job_id for seat in waiting)
      deadline_s = time.monotonic() + grace_s + LATE_S
      while leaving and time.monotonic() < deadline_s:
        time.sleep(self.poll_s)
        for slot, seat in list(leaving.items()):
          said += self._read(seat)
          if seat.left or not seat.is_open:
            del leaving[slot]
    finally:
      cluster.cancel(seat.job_id for seat in leaving.values())
      self._seats.clear()
      self._launcher.close()
    return said

  def _submit(self, slot: int) -> Seat:
    """A new job for a slot."""
    self._num_jobs += 1
    folder = self._launcher.folder / f"{slot}-{self._num_jobs}"
    folder.mkdir(parents=True)
    job = Job(
      folder, self._launcher.sign, self._runner, self.options.signal_delay_s
    )
    job_id = cluster.submit(job, folder, self._launcher.name, self.options)
    log = folder / f"{job_id}_0_log.err"
    self._notes.append(Note(f"slot {slot} is job {job_id} of SLURM: {folder}"))
    return Seat(slot, job_id, Spool(folder), log)

  def _ask(self) -> Mapping[str, cluster.State] | None:
    """The states of all jobs, where it is time to ask; else None."""
    # A job that leaves waits for nothing but SLURM's word.
    is_urgent = any(seat.left for seat in self._seats.values())
    wait_s = self.ask_s / 5 if is_urgent else self.ask_s
    if not self._seats or time.monotonic() - self._asked_s < wait_s:
      return None
    states = cluster.states([self._launcher.name])
    self._asked_s = time.monotonic()
    if states is None and not self._is_silent:
      self._notes.append(Note("squeue fails; going on by what the jobs say"))
    self._is_silent = states is None
    return states

  def _read(self, seat: Seat) -> Iterator[Event]:
    """What a job has said since; none of it where the slot is not started."""
    for row, offset in seat.spool.answers(seat.offset):
      if not seat.is_open:
        return
      if row["start"] >= seat.since:
        said = seat.answer(row)
        if isinstance(said, Ready) and seat.is_ready:
          # SLURM has begun the job anew. The line is read again when the slot
          # is started, which this worker is too early for.
          yield from self._send_back(seat)
          return
        seat.offset = offset
        yield from self._take(seat, said)
      seat.offset = offset

  def _take(self, seat: Seat, said: Event | None) -> Iterator[Event]:
    """Tells an answer, as far as it can be judged now."""
    if isinstance(said, _ENDS):
      seat.lanes.pop(said.run_id, None)
    if isinstance(said, Interrupted):
      seat.held.append(said)
    elif isinstance(said, Died):
      yield from seat.held
      seat.close()
      yield said
    elif said is not None:
      seat.is_ready = seat.is_ready or isinstance(said, Ready)
      yield said

  def _judge(
    self, seat: Seat, state: cluster.State, was_ready: bool
  ) -> Iterator[Event]:
    """Does what SLURM's word for a job asks for.

    Args:
      seat: of the job.
      state: of the job.
      was_ready: whether the job ran before SLURM was asked.
    """
    if state.stage == cluster.Stage.OVER:
      del self._seats[seat.slot]
      cluster.cancel([seat.job_id])  # What SLURM forgot must not come back.
      if not seat.is_open:
        return
      # It left in order, as at a preemption or after a long wait, unless that
      # was because somebody cancelled it.
      if state.is_taken or (seat.left and state.word != cluster.CANCELLED):
        yield from self._send_back(seat)
        return
      yield from seat.held
      seat.close()
      yield Died(seat.slot, seat.how_it_ended(state))
    elif state.stage == cluster.Stage.WAITS:
      if was_ready and seat.is_open:
        yield from self._send_back(seat)
      elif state.reason not in (seat.reason, "None"):
        seat.reason = state.reason
        yield Note(f"job {seat.job_id} waits: {state.reason}")

  def _send_back(self, seat: Seat) -> Iterator[Event]:
    """Tells that the cluster took a slot back, with its runs at no fault."""
    held = [said.run_id for said in seat.held]
    for run_id in [*held, *seat.lanes]:
      if self._gets_no_further(run_id, seat):
        what = (
          f"sent back by SLURM {MAX_STALLS} times without getting any further;"
          " give its job more time (--slurm.time), or save more often"
          " (checkpoint.every_steps)"
        )
        yield Failed(seat.slot, run_id, what, Cause.ERROR)
      else:
        yield Preempted(seat.slot, run_id)
    seat.close()
    yield Died(seat.slot, f"SLURM took job {seat.job_id} back")

  def _gets_no_further(self, run_id: str, seat: Seat) -> bool:
    """Whether a run has been sent back time after time from one step."""
    status = self._directory.run(run_id).read_status().value or {}
    step = status.get("step", 0)
    furthest, count = self._stalls.get(run_id, (-1, 0))
    count = 1 if step > furthest else count + 1
    self._stalls[run_id] = max(step, furthest), count
    return count >= MAX_STALLS


def with_options(options: Options) -> type[SlurmPool]:
  """The executor whose jobs ask for these."""
  return type("SlurmPool", (SlurmPool,), {"options": options})
