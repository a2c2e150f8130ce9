"""One sweep at a time in an out directory.

The lock is an open file's, which the workers inherit: it is free only when
the sweep *and* all of its workers are gone, however they ended. So a sweep
that is started again right after a SIGKILL never meets a worker of the old
one in a run's directory.
"""

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from normjax import errors

NAME = ".lock"


@contextlib.contextmanager
def held(out: Path, patience_s: float = 20.0) -> Iterator[int]:
  """Holds the directory's lock; yields its file descriptor for workers.

  Args:
    out: of the sweep.
    patience_s: how long to wait for workers whose sweep is gone already.

  Raises:
    RunError: another sweep runs here; names its process.
  """
  path = out / NAME
  descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
  deadline_s = time.monotonic() + patience_s
  try:
    while not _try_lock(descriptor):
      owner = _owner(path)
      here = owner.get("host") == socket.gethostname()
      gone = here and not _is_alive(owner.get("pid", 0))
      if not gone or time.monotonic() > deadline_s:
        raise errors.RunError(
          f"{out} is in use by another sweep: process"
          f" {owner.get('pid', '?')} on {owner.get('host', '?')}. Wait for it,"
          " stop it, or give another --out."
        )
      time.sleep(0.05)
    owner = {"pid": os.getpid(), "host": socket.gethostname()}
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(owner).encode(), 0)
    yield descriptor
  finally:
    os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
  try:
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    return False
  return True


def _owner(path: Path) -> dict:
  try:
    owner = json.loads(path.read_text())
  except ValueError:  # between its creation and its first line
    return {}
  return owner if isinstance(owner, dict) else {}


def _is_alive(pid: int) -> bool:
  """Whether a process of this machine still runs: a zombie does not."""
  stat = Path(f"/proc/{pid}/stat")
  if Path("/proc/self/stat").exists():
    try:
      return stat.read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
      return False
  try:
    os.kill(pid, 0)
  except ProcessLookupError:
    return False
  except PermissionError:
    return True
  return True
