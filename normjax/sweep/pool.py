"""Worker processes: start, send, read answers, stop."""

import contextlib
import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from normjax import stopping
from normjax.sweep.plan import Point

LOGS = "logs"
THREAD_COUNTS = (
  "OMP_NUM_THREADS",
  "OPENBLAS_NUM_THREADS",
  "MKL_NUM_THREADS",
)


@dataclasses.dataclass(eq=False)
class Worker:
  """One process and what it is at.

  Attributes:
    slot: its number, which decides its cores and its log.
    point: what it runs now.
    started_s: when that began, on the monotonic clock.
    program: of its last point, compiled in this process.
    programs: all that are compiled in this process.
  """

  process: subprocess.Popen
  slot: int
  log: Path
  ready: bool = False
  point: Point | None = None
  started_s: float = 0.0
  program: str | None = None
  programs: set[str] = dataclasses.field(default_factory=set)
  _buffer: bytes = b""

  @property
  def idle(self) -> bool:
    """Whether it waits for a point."""
    return self.ready and self.point is None

  def send(self, point: Point, directory: Path) -> None:
    """Hands it a point."""
    self.point = point
    self.started_s = time.monotonic()
    request = {"config": point.config, "directory": str(directory)}
    # One that has just died is noticed at its standard output.
    with contextlib.suppress(BrokenPipeError):
      self.process.stdin.write((json.dumps(request) + "\n").encode())
      self.process.stdin.flush()
    self.program = point.program

  def answers(self) -> Iterator[dict[str, Any]]:
    """What it has said since the last call; ends it where it closed."""
    data = os.read(self.process.stdout.fileno(), 1 << 16)
    *lines, self._buffer = (self._buffer + data).split(b"\n")
    for line in lines:
      yield json.loads(line)
    if not data:
      yield {"event": "closed"}

  def kill(self) -> None:
    """Ends it and its children at once."""
    with contextlib.suppress(ProcessLookupError):
      os.killpg(self.process.pid, signal.SIGKILL)
    self.close()

  def close(self) -> None:
    """Waits for its end, and closes the pipes."""
    with contextlib.suppress(BrokenPipeError):
      self.process.stdin.close()
    self.process.wait()
    self.process.stdout.close()

  def epitaph(self) -> str:
    """How it ended, and the last lines of its log."""
    code = self.process.returncode
    if code is not None and code < 0:
      name = signal.Signals(-code).name
      how = f"the worker was killed by {name}"
      if -code == signal.SIGKILL:
        how += " (out of memory?)"
    else:
      how = f"the worker ended with status {code}"
    tail = log_tail(self.log)
    return f"{how}; the end of {self.log}: {tail}" if tail else how


def start(
  out: Path, slot: int, cores: Sequence[int] | None, runner: str, lock: int
) -> Worker:
  """Starts a worker, pinned to `cores` where given.

  It is the leader of a process group of its own: Ctrl-C in a terminal
  reaches the sweep alone, which then stops its workers in order.
  """
  (out / LOGS).mkdir(exist_ok=True)
  log = out / LOGS / f"worker-{slot}.log"
  environment = dict(os.environ)
  # A worker imports what its sweep imports, installed or not.
  environment["PYTHONPATH"] = os.pathsep.join(
    path or os.getcwd() for path in sys.path
  )
  command = [
    sys.executable, "-m", "normjax.sweep.worker",
    f"--runner={runner}", f"--parent={os.getpid()}", f"--lock={lock}",
  ]  # fmt: skip
  if cores:
    command.append(f"--cores={','.join(map(str, cores))}")
    for name in THREAD_COUNTS:
      environment.setdefault(name, str(len(cores)))
  with log.open("ab") as errors_file:
    process = subprocess.Popen(
      command,
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=errors_file,
      pass_fds=(lock,),
      env=environment,
      start_new_session=True,
    )
  return Worker(process, slot, log)


def stop(workers: Sequence[Worker], grace_s: float) -> None:
  """Ends workers: the idle by closing their input, the busy by a signal.

  A busy worker may write a last checkpoint; after `grace_s`, SIGKILL.
  """
  try:
    for worker in workers:
      with contextlib.suppress(BrokenPipeError):
        if worker.point is None:
          worker.process.stdin.close()
        else:
          worker.process.send_signal(stopping.SWEEP)
    deadline_s = time.monotonic() + grace_s
    for worker in workers:
      left_s = max(0.0, deadline_s - time.monotonic())
      with contextlib.suppress(subprocess.TimeoutExpired):
        worker.process.wait(left_s)
  finally:
    for worker in workers:
      worker.kill()


def usable_cores() -> list[int]:
  """The cores that this process may use, as they are numbered."""
  if hasattr(os, "sched_getaffinity"):
    return sorted(os.sched_getaffinity(0))
  return list(range(os.cpu_count() or 1))


def core_groups(cores: Sequence[int], num_workers: int) -> list[list[int]]:
  """The cores in `num_workers` groups of nearly equal size.

  More workers than cores share them in turn.
  """
  if num_workers >= len(cores):
    return [[cores[i % len(cores)]] for i in range(num_workers)]
  bounds = [i * len(cores) // num_workers for i in range(num_workers + 1)]
  return [list(cores[a:b]) for a, b in itertools.pairwise(bounds)]


def has_accelerator() -> bool:
  """Whether jax would use one, told from device files: jax is not imported."""
  platforms = os.environ.get("JAX_PLATFORMS", "")
  if platforms:
    return platforms.split(",")[0] != "cpu"
  patterns = ("nvidia[0-9]*", "accel[0-9]*", "accel/accel*", "kfd")
  return any(any(Path("/dev").glob(pattern)) for pattern in patterns)


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
