"""What a job of the cluster runs: one worker, and the launcher's words for it.

The job trains nothing itself. It hears signals at once, whatever the worker is
at, and can end a worker that does not listen, and start another, within the
time that it has.
"""

import os
import signal
import time
from pathlib import Path
from typing import Any

from normjax import stopping
from normjax.sweep import launch, protocol
from normjax.sweep.executor import (
  Died,
  Event,
  Failed,
  Finished,
  Interrupted,
  NoRoomError,
  Note,
)
from normjax.sweep.local import LocalPool
from normjax.sweep.slurm.spool import Spool, What, Word

POLL_S = 0.25
# So long a job waits for runs, as where the launcher is gone, or has none; then
# it makes room for others.
IDLE_S = 600.0
IDLE = "idle"
# Of the time between the signal and the end, for all but checkpoints.
_RESERVE_S = 15.0
_SLOT = 0  # Of the job's own pool.


class Job:
  """A slot of the pool; submitit pickles it, calls it, and requeues it."""

  def __init__(
    self, spool: Path, sign: Path, runner: str, signal_delay_s: float
  ):
    """Runs nothing yet.

    Args:
      spool: its folder.
      sign: of life, of its launcher; it says to workers whose they are.
      runner: see `Executor`.
      signal_delay_s: between the signal and the end of the job.
    """
    self._spool = spool
    self._sign = sign
    self._runner = runner
    self._grace_s = max(1.0, signal_delay_s - _RESERVE_S)

  def __call__(self) -> str:
    """Serves the launcher until it, or a signal, ends that; says which."""
    # submitit's: calls `checkpoint`, requeues, and exits.
    requeue = signal.getsignal(stopping.CLUSTER)
    heard: list[int] = []
    for number in (stopping.CLUSTER, signal.SIGTERM):
      signal.signal(number, lambda number, frame: heard.append(number))
    try:
      descriptor = os.open(self._sign, os.O_RDONLY)
    except FileNotFoundError:
      return "the launcher has ended"
    pool = LocalPool(
      out=self._spool, runner=self._runner, num_slots=1, lock=descriptor
    )
    why = Session(Spool(self._spool), pool, heard, self._grace_s).serve()
    if why == stopping.CLUSTER.name and callable(requeue):
      requeue(stopping.CLUSTER, None)
    return why

  def checkpoint(self) -> Any:
    """What runs when the job is requeued: it again; runs have their own."""
    import submitit

    return submitit.helpers.DelayedSubmission(self)


class Session:
  """One time that a job runs."""

  def __init__(
    self, spool: Spool, pool: LocalPool, heard: list[int], grace_s: float
  ):
    """Starts nothing yet.

    Args:
      spool: of the job.
      pool: its own.
      heard: signals, in their order; others add to it.
      grace_s: for last checkpoints, before the time is up.
    """
    self._spool = spool
    self._pool = pool
    self._heard = heard
    self._grace_s = grace_s
    self._left: list[str] = []  # Runs of the worker without an end.
    self._has_worker = False
    self._done = 0  # The number of the last word that was obeyed.
    self._start = 0  # The number of the one that started the worker.
    self._busy_s = time.monotonic()

  def serve(self) -> str:
    """Obeys until it is time to leave; returns why it is."""
    self._spool.begin()
    if word := self._spool.read_word():
      # It was for the job as it ran before; its worker counts from there.
      self._done = self._start = word.number
    self._start_worker()
    while not (why := self._why_leave()):
      for event in self._pool.events(POLL_S):
        self._tell(event)
      self._obey()
    reason, grace_s = why
    for event in self._pool.stop(grace_s):
      self._tell(event)
    for run_id in list(self._left):
      self._tell(Interrupted(_SLOT, run_id))
    self._spool.tell(start=self._start, left=reason)
    return reason

  def _why_leave(self) -> tuple[str, float] | None:
    """Why the job should end, and how long checkpoints may take."""
    if self._heard:
      is_cluster = stopping.CLUSTER in self._heard
      number = stopping.CLUSTER if is_cluster else self._heard[0]
      grace_s = self._grace_s if is_cluster else launch.GRACE_S
      return signal.Signals(number).name, grace_s
    word = self._new_word()
    if word and word.what == What.LEAVE:
      return word.what, word.grace_s
    now_s = time.monotonic()
    if self._left or word:
      self._busy_s = now_s
    return (IDLE, 0.0) if now_s - self._busy_s > IDLE_S else None

  def _new_word(self) -> Word | None:
    word = self._spool.read_word()
    return word if word and word.number > self._done else None

  def _obey(self) -> None:
    """Does what the launcher asked for last."""
    word = self._new_word()
    if word is None or word.what == What.LEAVE:
      return
    self._done = word.number
    if word.what == What.RUN:
      if self._has_worker:  # Else the launcher is about to read of its end.
        lanes = protocol.read_request(word.request)
        self._left = [lane.run_id for lane in lanes]
        self._pool.submit(_SLOT, lanes)
      return
    self._left, self._has_worker = [], False
    self._pool.stop(grace_s=0.0)
    if word.what == What.START:
      self._start = word.number
      self._start_worker()

  def _start_worker(self) -> None:
    # SLURM signals every process of a job; the worker hears it from here.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {stopping.CLUSTER})
    try:
      self._pool.start(_SLOT)
      self._has_worker = True
    except NoRoomError as error:
      self._tell(Died(_SLOT, str(error)))
    finally:
      signal.pthread_sigmask(signal.SIG_SETMASK, before)

  def _tell(self, event: Event) -> None:
    """Writes down what happened."""
    if isinstance(event, Finished | Failed | Interrupted):
      self._left = [run_id for run_id in self._left if run_id != event.run_id]
    if isinstance(event, Died):
      self._has_worker = False
      if self._heard:  # It heard the signal too; the job's end is what counts.
        return
      self._left = []
      self._spool.tell(start=self._start, died=event.message)
    elif isinstance(event, Note):
      self._spool.tell(start=self._start, note=event.text)
    else:
      said = protocol.write_answer(event)
      self._spool.tell(start=self._start, said=said)
