"""One process at a time in a folder: a run's, or a published table's.

The lock is an open file's, which the processes that are started may inherit:
it is free only when all of them are gone, however they ended. A lock of a
process that died is free. Launchers share the folder of a sweep: `lease`.
"""

import contextlib
import errno
import fcntl
import functools
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from normjax import errors, faults

_LOG = logging.getLogger(__name__)
NAME = ".lock"
# Of file systems that have no locks, as some of a cluster's.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextlib.contextmanager
def held(folder: Path, by: str, patience_s: float = 20.0) -> Iterator[int]:
  """Holds the folder's lock; yields its file descriptor.

  Args:
    folder: of the run, or of the table.
    by: what holds it, for the message.
    patience_s: how long to wait for the end of a process that is being killed,
      or whose launcher is gone already.

  Raises:
    BusyRunError: another process works here; names it.
  """
  path = folder / NAME
  descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
  deadline_s = time.monotonic() + patience_s
  try:
    while not take(descriptor, path):
      owner = _owner(path)
      if not is_abandoned(folder) or time.monotonic() > deadline_s:
        raise errors.BusyRunError(
          f"{folder} is in use by another {by}: process"
          f" {owner.get('pid', '?')} on {owner.get('host', '?')}. Wait for it,"
          " stop it, or give another --out."
        )
      time.sleep(0.05)
    owner = {"pid": os.getpid(), "host": socket.gethostname()}
    with faults.naming(path):
      os.ftruncate(descriptor, 0)
      os.pwrite(descriptor, json.dumps(owner).encode(), 0)
    yield descriptor
  finally:
    os.close(descriptor)


@contextlib.contextmanager
def briefly(descriptor: int, path: Path) -> Iterator[None]:
  """Holds the lock of an open file for a moment; waits for others' moments."""
  take(descriptor, path, waits=True)
  try:
    yield
  finally:
    with contextlib.suppress(OSError):  # There were none to take.
      fcntl.flock(descriptor, fcntl.LOCK_UN)


def is_abandoned(folder: Path) -> bool:
  """Whether the process that locked a folder last is known to be gone.

  Of a process on another machine, and where nobody took the lock, nothing is
  known.
  """
  try:
    owner = _owner(folder / NAME)
  except OSError:
    return False
  here = owner.get("host") == socket.gethostname()
  return here and not is_alive(owner.get("pid", 0))


def taken_by(folder: Path) -> dict:
  """Which process locked a folder last, as {"pid", "host"}; {}: not known."""
  try:
    return _owner(folder / NAME)
  except OSError:
    return {}


def take(descriptor: int, path: Path, *, waits: bool = False) -> bool:
  """Takes the lock of an open file; False where another process has it.

  Args:
    descriptor: of the file.
    path: of the file, for the message where there are no locks.
    waits: until it is free.
  """
  try:
    fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
  except BlockingIOError:
    return False
  except OSError as error:
    if error.errno not in NO_LOCKS:
      raise
    _warn(path, error.strerror)
  return True


@functools.cache  # Once per file.
def _warn(path: Path, why: str) -> None:
  _LOG.warning(
    "%s: this file system has no locks (%s); nothing keeps two processes"
    " apart here",
    path,
    why,
  )


def _owner(path: Path) -> dict:
  try:
    owner = json.loads(path.read_text())
  except ValueError:  # between its creation and its first line
    return {}
  return owner if isinstance(owner, dict) else {}


def is_alive(pid: int) -> bool:
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
