"""The executor of this machine: a pool of worker processes.

A slot is a process, pinned to cores of its own where there is no accelerator,
and with a GPU of its own where there are some (`devices`), which no other
launcher of this machine has (`device_locks`).
It is the leader of a process group: Ctrl-C in a terminal reaches the sweep
alone, which then stops its workers in order.
"""

import contextlib
import errno
import itertools
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, ClassVar

from normjax import beside, errors, stopping
from normjax.record import lease
from normjax.record import lock as lock_lib
from normjax.sweep import device_locks, devices, machine, protocol
from normjax.sweep.executor import (
  Died,
  Event,
  Executor,
  Failed,
  Finished,
  Interrupted,
  Lane,
  NoRoomError,
)

LOGS = "logs"
THREAD_COUNTS = (
  "OMP_NUM_THREADS",
  "OPENBLAS_NUM_THREADS",
  "MKL_NUM_THREADS",
)
_ENDS = (Finished, Failed, Interrupted)
_NO_ROOM = (errno.ENOMEM, errno.EAGAIN)
_ANSWER_BYTES = 1 << 16
# From the end of a worker's output to its own end.
_LAST_BREATH_S = 5.0


class LocalPool:
  """Worker processes of this machine; see `Executor`.

  Attributes:
    share: of the machine's GPUs.
  """

  same_machine = True
  share: ClassVar[devices.Share] = devices.Share()

  def __init__(self, *, out: Path, runner: str, num_slots: int, lock: int):
    """Starts nothing yet."""
    self._out = out
    self._runner = runner
    self._lock = lock
    self._cores = None
    is_free = not (self.share.gpus or machine.has_accelerator())
    if is_free and hasattr(os, "sched_setaffinity"):
      self._cores = machine.core_groups(machine.usable_cores(), num_slots)
    self._workers: dict[int, Worker] = {}
    self._gpus = device_locks.Groups(self.share)
    self._selector = selectors.DefaultSelector()

  @classmethod
  def default_num_slots(cls) -> int:
    """One for each GPU, else for each core; one for another accelerator."""
    if cls.share.most_workers is not None:
      return cls.share.most_workers
    return 1 if machine.has_accelerator() else len(machine.usable_cores())

  def start(self, slot: int) -> None:
    """Starts the worker of a slot.

    Raises:
      NoRoomError: there is no memory for another process, or other launchers
        have the GPUs.
    """
    cores = self._cores[slot] if self._cores else None
    sees, held = self._gpus.take(slot)
    try:
      worker = Worker(
        self._out, slot, cores, self._runner, self._lock, sees, held
      )
    except OSError as error:
      self._gpus.give_back(slot)
      if error.errno not in _NO_ROOM:
        raise
      raise NoRoomError(error.strerror) from error
    self._workers[slot] = worker
    self._selector.register(worker.answers, selectors.EVENT_READ, worker)

  def submit(self, slot: int, lanes: Sequence[Lane]) -> None:
    """Writes the request to the slot's worker."""
    self._workers[slot].send(lanes)

  def events(self, timeout_s: float) -> Iterator[Event]:
    """What the workers say."""
    for key, _ in self._selector.select(timeout_s):
      worker = key.data
      # Whoever takes the events may end a slot between two of them.
      if worker in self._workers.values():
        yield from self._read(worker)

  def end(self, slot: int) -> None:
    """Kills the slot's worker and its children."""
    worker = self._workers.pop(slot)
    self._selector.unregister(worker.answers)
    worker.kill()
    self._gpus.give_back(slot)

  def stop(self, grace_s: float) -> list[Event]:
    """Ends the idle workers by closing their input, the busy by a signal."""
    workers = list(self._workers.values())
    said: list[Event] = []
    try:
      for worker in workers:
        worker.ask_to_end()
      deadline_s = time.monotonic() + grace_s
      for worker in workers:
        worker.wait(max(0.0, deadline_s - time.monotonic()))
      said += self.events(timeout_s=0.0)
    finally:
      for slot in list(self._workers):
        self.end(slot)
      self._gpus.close()
    return said

  def _read(self, worker: "Worker") -> Iterator[Event]:
    """What a worker says; it is ended where that is none of the protocol."""
    try:
      said, is_open = worker.read()
    except protocol.ProtocolError as error:
      self.end(worker.slot)
      yield Died(worker.slot, str(error))
      return
    for answer in said:
      yield answer
      if self._workers.get(worker.slot) is not worker:
        return
    if not is_open:
      # Its own end, not our SIGKILL, is what the message tells.
      worker.wait(_LAST_BREATH_S)
      self.end(worker.slot)
      yield Died(worker.slot, worker.how_it_ended())


def sharing(share: devices.Share) -> type[LocalPool]:
  """The pool whose workers share the GPUs so."""
  return type("LocalPool", (LocalPool,), {"share": share})


def fitted(
  place: type[Executor],
  configs: Iterable[Mapping[str, Any]],
  workers: int | None,
  workers_per_gpu: int | None,
) -> type[Executor]:
  """The executor with a share of this machine's GPUs for each worker.

  Args:
    place: another one is left as it is.
    configs: of the points, plain.
    workers: as many as are asked for; None: as many as fit.
    workers_per_gpu: as asked for; None: one.

  Raises:
    UserError: more than there are, or GPUs are none of the executor's matter.
  """
  if place is not LocalPool:
    if workers_per_gpu is not None:
      raise errors.UserError(
        f"--workers_per_gpu={workers_per_gpu} is for workers of this machine."
      )
    return place
  share = devices.share(configs, workers_per_gpu)
  share.check(workers)
  return sharing(share)


def shares_unasked(place: type) -> bool:
  """Whether workers of a pool meet on an accelerator that is not shared out."""
  return (
    issubclass(place, LocalPool)
    and not place.share.gpus
    and machine.has_accelerator()
  )


class Worker:
  """One process, its pipes and its log."""

  def __init__(
    self,
    out: Path,
    slot: int,
    cores: Sequence[int] | None,
    runner: str,
    lock: int,
    sees: Mapping[str, str],
    held: Sequence[int] = (),
  ):
    """Starts it, pinned to `cores` where given; `sees` says its GPUs.

    As long as it is there, the locks of the open files `held` are too.
    """
    (out / LOGS).mkdir(exist_ok=True)
    self.slot = slot
    self._buffer = b""
    self._num_left = 0
    # A worker imports what its sweep imports, installed or not.
    environment = {
      **os.environ,
      **beside.environment(),
      **lease.environment(lock),
      **sees,
    }
    command = [
      sys.executable, "-P", "-m", "normjax.sweep.worker",
      f"--slot={slot}", f"--runner={runner}", f"--parent={os.getpid()}",
      f"--lock={lock}",
    ]  # fmt: skip
    if cores:
      command.append(f"--cores={','.join(map(str, cores))}")
      for name in THREAD_COUNTS:
        environment.setdefault(name, str(len(cores)))
    self._log, errors_file = _open_log(out / LOGS, slot)
    with errors_file:
      self._process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors_file,
        pass_fds=(lock, *held),
        env=environment,
        start_new_session=True,
      )
    self.answers = self._process.stdout

  def send(self, lanes: Sequence[Lane]) -> None:
    """Hands it lanes."""
    self._num_left = len(lanes)
    # One that has just died is noticed at its standard output.
    with contextlib.suppress(BrokenPipeError):
      self._process.stdin.write(protocol.write_request(lanes).encode())
      self._process.stdin.flush()

  def read(self) -> tuple[list[protocol.Answer], bool]:
    """What it has said, and whether it may say more; waits for either.

    Raises:
      ProtocolError: it said something else.
    """
    data = os.read(self.answers.fileno(), _ANSWER_BYTES)
    *lines, self._buffer = (self._buffer + data).split(b"\n")
    said = [
      protocol.read_answer(line.decode(errors="replace"), self.slot)
      for line in lines
    ]
    self._num_left -= sum(isinstance(each, _ENDS) for each in said)
    return said, bool(data)

  def ask_to_end(self) -> None:
    """Lets it end: at once where it is idle, else with a last checkpoint."""
    with contextlib.suppress(BrokenPipeError):
      if self._num_left:
        self._process.send_signal(stopping.SWEEP)
      else:
        self._process.stdin.close()

  def wait(self, timeout_s: float) -> None:
    """Waits for its end, no longer than a timeout."""
    with contextlib.suppress(subprocess.TimeoutExpired):
      self._process.wait(timeout_s)

  def kill(self) -> None:
    """Ends it and its children at once, and closes the pipes."""
    with contextlib.suppress(ProcessLookupError):
      os.killpg(self._process.pid, signal.SIGKILL)
    with contextlib.suppress(BrokenPipeError):
      self._process.stdin.close()
    self._process.wait()
    self._process.stdout.close()

  def how_it_ended(self) -> str:
    """Its status, and the last lines of its log."""
    code = self._process.returncode
    if code is not None and code < 0:
      name = signal.Signals(-code).name
      how = f"the worker was killed by {name}"
      if -code == signal.SIGKILL:
        how += " (out of memory?)"
    else:
      how = f"the worker ended with status {code}"
    tail = log_tail(self._log)
    return f"{how}; the end of {self._log}: {tail}" if tail else how


def _open_log(folder: Path, slot: int) -> tuple[Path, IO[bytes]]:
  """A log that no other launcher's worker writes: they hold its lock."""
  for number in itertools.count(1):
    name = f"worker-{slot}" + (f".{number}" if number > 1 else "")
    path = folder / f"{name}.log"
    file = path.open("ab")
    if lock_lib.take(file.fileno(), path):
      return path, file
    file.close()
  raise AssertionError


def log_tail(log: Path, num_lines: int = 3) -> str:
  """The last lines of a log, in one."""
  try:
    with log.open("rb") as file:
      file.seek(max(0, log.stat().st_size - 4096))
      text = file.read().decode(errors="replace")
  except OSError:
    return ""
  lines = [line.strip() for line in text.splitlines() if line.strip()]
  return " | ".join(lines[-num_lines:])
