"""One process at a time in a folder: a sweep's, or a run's.

The lock is an open file's, which a sweep's workers inherit: it is free only
when the sweep *and* all of its workers are gone, however they ended. So a
sweep that is started again right after a SIGKILL never meets a worker of the
old one in a run's directory. A lock of a process that died is free.
"""

import contextlib
import errno
import fcntl
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
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextlib.contextmanager
def held(
  folder: Path, by: str = "sweep", patience_s: float = 20.0
) -> Iterator[int]:
  """Holds the folder's lock; yields its file descriptor for workers.

  Args:
    folder: of the sweep, or of the run.
    by: what holds it, for the message.
    patience_s: how long to wait for the end of workers whose sweep is gone
      already, or of a process that is being killed.

  Raises:
    BusyRunError: another process works here; names it.
  """
  path = folder / NAME
  descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
  deadline_s = time.monotonic() + patience_s
  try:
    while not _try_lock(descriptor, path):
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
  return here and not _is_alive(owner.get("pid", 0))


def _try_lock(descriptor: int, path: Path) -> bool:
  try:
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    return False
  except OSError as error:
    if error.errno not in _NO_LOCKS:
      raise
    _LOG.warning(
      "%s: this file system has no locks (%s); nothing keeps two processes"
      " apart here",
      path,
      error.strerror,
    )
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
