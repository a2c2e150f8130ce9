"""GPUs of this machine that launchers keep from each other.

    /tmp/normjax-gpus/<GPU>.lock

A launcher locks the file of each GPU that it gives to its workers, until its
end; they inherit the lock, so that it is free only when all of them are gone.
Whoever tells XLA how much of a GPU's memory it may take shares it with others
who do. All names of a GPU are one here: its place in the driver's list, its
UUID, and the beginning of that.
"""

import contextlib
import errno
import fcntl
import json
import logging
import os
import socket
import stat
import time
from collections.abc import Sequence
from pathlib import Path

from normjax.record import lock
from normjax.sweep import devices
from normjax.sweep.executor import NoRoomError

_LOG = logging.getLogger(__name__)
_FOLDER = Path("/tmp/normjax-gpus")
# For the end of workers whose launcher is gone already.
_PATIENCE_S = 5.0
_JOB = "SLURM_JOB_ID"


class Groups:
  """The groups of GPUs that a launcher's workers have.

  A group is what one worker sees; see `devices.Share`.
  """

  def __init__(self, share: devices.Share):
    """Takes none yet."""
    self._share = share
    self._locks: dict[int, list[int]] = {}  # By group: open files.
    self._of_slot: dict[int, int] = {}
    self._names: list[str] | None = None

  def take(self, slot: int) -> tuple[dict[str, str], tuple[int, ...]]:
    """A group for a worker: its own one, else one that is free.

    Args:
      slot: of the worker.

    Returns:
      What the worker's environment says, and the open files that it inherits.

    Raises:
      NoRoomError: other launchers have all that is left.
    """
    if not self._share.gpus:
      return {}, ()
    refused = []
    for group in self._in_order(slot):
      if owner := self._lock(group):
        refused.append(owner)
        continue
      self._of_slot[slot] = group
      return self._share.environment(group), tuple(self._locks[group])
    raise NoRoomError(
      f"{'; '.join(dict.fromkeys(refused))} (CUDA_VISIBLE_DEVICES says which"
      f" GPUs are used; {devices.FRACTION} in both shares them)"
    )

  def give_back(self, slot: int) -> None:
    """A worker is gone; its group stays this launcher's."""
    self._of_slot.pop(slot, None)

  def close(self) -> None:
    """Leaves all to others, once the workers are gone too."""
    for files in self._locks.values():
      _close(files)
    self._locks.clear()
    self._of_slot.clear()

  def _in_order(self, slot: int) -> list[int]:
    """Groups that have room for one more worker, the slot's own one first."""
    count = self._share.num_groups
    has = [*self._of_slot.values()]
    own = slot % count
    order = sorted(
      range(count), key=lambda g: (has.count(g), (g - own) % count)
    )
    return [g for g in order if has.count(g) < self._share.workers_per_gpu]

  def _lock(self, group: int) -> str:
    """Takes a group; who has it where that is another launcher, else ""."""
    if group in self._locks:
      return ""
    if self._names is None:
      self._names = devices.canonical(self._share.gpus)
    size = self._share.gpus_per_worker
    taken: list[int] = []
    for name in self._names[group * size : (group + 1) * size]:
      found = _take(name, shared=devices.says_fraction())
      if isinstance(found, str):
        _close(taken)
        return found
      taken += found
    self._locks[group] = taken
    return ""


def _take(name: str, *, shared: bool) -> list[int] | str:
  """The open file of a GPU's lock; none without locks; or who has it."""
  if name.isdigit() and (job := os.environ.get(_JOB)):
    name = f"{name}-of-{job}"  # Each job may have a GPU 0 of its own.
  path = _FOLDER / f"{name.replace('/', '_')}.lock"
  try:
    descriptor = _open(path)
  except OSError as error:
    _LOG.warning(
      "%s: %s; nothing keeps other launchers from GPU %s",
      path,
      error.strerror,
      name,
    )
    return []
  kind = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
  deadline_s = time.monotonic() + _PATIENCE_S
  while True:
    try:
      fcntl.flock(descriptor, kind)
    except BlockingIOError:
      owner = _owner(descriptor)
      here = owner.get("host") == socket.gethostname()
      is_gone = here and not lock.is_alive(owner.get("pid", 0))
      if is_gone and time.monotonic() < deadline_s:
        time.sleep(0.05)
        continue
      os.close(descriptor)
      return (
        f"GPU {name} is in use by another launcher, process"
        f" {owner.get('pid', '?')} on {owner.get('host', '?')}"
      )
    except OSError as error:
      if error.errno not in lock.NO_LOCKS:
        os.close(descriptor)
        raise
    with contextlib.suppress(OSError):  # Of another user: it is only read.
      said = {"pid": os.getpid(), "host": socket.gethostname()}
      os.ftruncate(descriptor, 0)
      os.pwrite(descriptor, json.dumps(said).encode(), 0)
    return [descriptor]


def _open(path: Path) -> int:
  """A file that any user may lock, and no link that one may have laid."""
  with contextlib.suppress(FileExistsError):
    path.parent.mkdir()
    path.parent.chmod(0o1777)
  if not stat.S_ISDIR(path.parent.lstat().st_mode):
    raise NotADirectoryError(
      errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path.parent)
    )
  # In such folders Linux may refuse to "create" what another user has made.
  for flags in (
    os.O_RDWR,
    os.O_RDWR | os.O_CREAT | os.O_EXCL,
    os.O_RDWR,
    os.O_RDONLY,
  ):
    try:
      descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    except (FileNotFoundError, FileExistsError, PermissionError):
      continue
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
      os.close(descriptor)
      break
    with contextlib.suppress(PermissionError):
      os.fchmod(descriptor, 0o666)  # As umask may not have it.
    return descriptor
  raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def _owner(descriptor: int) -> dict:
  """Who took the lock of an open file last, as far as it says."""
  try:
    said = json.loads(os.pread(descriptor, 4096, 0))
  except ValueError:
    return {}
  return said if isinstance(said, dict) else {}


def _close(files: Sequence[int]) -> None:
  for descriptor in files:
    os.close(descriptor)
