"""Whether another launcher still works: its sign of life.

    <out>/leases/<token>.launcher    who it is, and a count that grows

The launcher holds this file's lock, which its workers inherit, and counts on
every few seconds. Who is gone is told without ever comparing two clocks:

- of a launcher of this machine by the lock, which is free as soon as the
  launcher *and* all of its workers are gone, however they ended: at once;
- of any other by the count: it is gone when this process has seen the count
  unchanged for `EXPIRY_S` of its own monotonic clock. Time in which this
  process itself could not look, stopped or without a disk, does not count.
"""

import dataclasses
import fcntl
import json
import logging
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from normjax import faults
from normjax.record import lock

BEAT_S = 5.0
EXPIRY_S = 60.0
SUFFIX = ".launcher"
# Between two looks at a launcher, at most so much counts as having seen it.
_MOST_SEEN_S = 2 * BEAT_S
# The file is written in place, so that a shorter count leaves nothing behind.
_FILE_BYTES = 512
_TOKEN = re.compile(r"\w{1,64}", re.ASCII)
_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Launcher:
  """A process that launches a sweep's points.

  Attributes:
    token: its own alone; no other launcher ever has it.
    host: the machine's name.
    boot: which start of the machine it belongs to; "" where nothing tells.
    pid: on that machine.
    started_unix_s: by that machine's clock; for people alone.
  """

  token: str
  host: str
  boot: str
  pid: int
  started_unix_s: float

  @classmethod
  def here(cls) -> "Launcher":
    """This process, with a new token."""
    return cls(
      uuid.uuid4().hex[:16],
      socket.gethostname(),
      _boot_id(),
      os.getpid(),
      time.time(),
    )

  @classmethod
  def read(cls, value: Any) -> "Launcher | None":
    """From a file's value; None where it is no launcher's."""
    try:
      kinds = {"token": str, "host": str, "boot": str, "pid": int}
      if not all(type(value[key]) is kind for key, kind in kinds.items()):
        return None
      # It names a file, and the time orders launchers.
      if not _TOKEN.fullmatch(value["token"]):
        return None
      if type(value["started_unix_s"]) not in (int, float):
        return None
      names = [field.name for field in dataclasses.fields(cls)]
      return cls(**{name: value[name] for name in names})
    except (KeyError, TypeError):
      return None

  @property
  def is_of_this_machine(self) -> bool:
    """Whether its lock and its process can be looked at here."""
    return (self.host, self.boot) == (socket.gethostname(), _boot_id())

  def __str__(self) -> str:
    """As people are told."""
    return f"process {self.pid} on {self.host}"


class Heartbeat:
  """This process's sign of life, as long as the block runs.

  Attributes:
    launcher: this process.
    descriptor: of the file whose lock is held, for workers to inherit.
    path: of that file.
    is_lost: whether the file was taken away: to others this process is gone.
  """

  def __init__(
    self,
    folder: Path,
    *,
    beat_s: float = BEAT_S,
    at_each: Callable[[], None] = lambda: None,
  ):
    """Makes nothing yet.

    Args:
      folder: of the leases.
      beat_s: from one count to the next.
      at_each: is called after each count, in the thread that counts.
    """
    self.launcher = Launcher.here()
    self.descriptor = -1
    self.path = folder / f"{self.launcher.token}{SUFFIX}"
    self._beat_s = beat_s
    self._at_each = at_each
    self._count = 0
    self._num_missed = 0
    self.is_lost = False
    self._ended = threading.Event()
    self._thread = threading.Thread(target=self._go_on, daemon=True)

  def __enter__(self) -> "Heartbeat":
    """Makes the file, takes its lock, and starts to count."""
    faults.make_folder(self.path.parent)
    draft = self.path.with_name(f".{self.path.name}.tmp")
    with faults.naming(self.path):
      flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
      self.descriptor = os.open(draft, flags, 0o666)
      try:
        lock.take(self.descriptor, draft)
        self._beat()
        # Nobody finds it before it is locked: a free lock is a dead launcher.
        os.replace(draft, self.path)
      except BaseException:
        draft.unlink(missing_ok=True)
        os.close(self.descriptor)
        raise
    _remove_dead(self.path.parent)
    self._thread.start()
    return self

  def __exit__(self, *exception: Any) -> None:
    """Removes the file: after the end nobody waits for this process."""
    self._ended.set()
    self._thread.join()
    self.path.unlink(missing_ok=True)
    os.close(self.descriptor)

  def _beat(self) -> None:
    self._count += 1
    value = {**dataclasses.asdict(self.launcher), "count": self._count}
    text = json.dumps(value).ljust(_FILE_BYTES - 1) + "\n"
    os.pwrite(self.descriptor, text.encode(), 0)
    os.fsync(self.descriptor)  # Other machines see what the server has.

  def _go_on(self) -> None:
    """Counts until the end; a disk that fails for a while is no end."""
    while not self._ended.wait(self._beat_s):
      try:
        self._beat()
        if self._is_found():
          self._at_each()
      except OSError as error:
        _LOG.warning("%s: no sign of life: %s", self.path, error)

  def _is_found(self) -> bool:
    """Whether the file is where others look; it is lost if twice it is not."""
    try:
      is_there = os.path.samestat(os.stat(self.path), os.fstat(self.descriptor))
    except (FileNotFoundError, NotADirectoryError):
      is_there = False
    self._num_missed = 0 if is_there else self._num_missed + 1
    self.is_lost = self.is_lost or self._num_missed > 1
    return is_there


def read(descriptor: int) -> Launcher:
  """Whose sign of life an open file is."""
  launcher = Launcher.read(json.loads(os.pread(descriptor, _FILE_BYTES, 0)))
  if launcher is None:
    raise ValueError("the file is no launcher's")
  return launcher


class Observer:
  """Tells which launchers are gone, from how long it has seen them still."""

  def __init__(
    self,
    folder: Path,
    *,
    expiry_s: float = EXPIRY_S,
    clock: Callable[[], float] = time.monotonic,
  ):
    """Has seen nothing yet.

    Args:
      folder: of the leases.
      expiry_s: see the head of this file.
      clock: monotonic seconds.
    """
    self._folder = folder
    self._expiry_s = expiry_s
    self._clock = clock
    # By what is watched: content, seconds seen so, when looked at last.
    self._seen: dict[str, tuple[bytes, float, float]] = {}

  def is_gone(self, launcher: Launcher) -> bool:
    """Whether a launcher is gone, with all of its workers."""
    path = self._folder / f"{launcher.token}{SUFFIX}"
    if launcher.is_of_this_machine:
      is_free = _is_free(path)
      return not lock.is_alive(launcher.pid) if is_free is None else is_free
    # Without a file too: names may be late on their way between machines.
    return self.is_still(launcher.token, _content(path))

  def lives(self, launcher: Launcher) -> None:
    """Begins anew with a launcher that was seen, or a worker of it."""
    self._seen.pop(launcher.token, None)

  def is_still(self, what: str, content: bytes) -> bool:
    """Whether something was seen to have one content long enough."""
    now_s = self._clock()
    before, seen_s, last_s = self._seen.get(what, (content, 0.0, now_s))
    seen_s += min(now_s - last_s, _MOST_SEEN_S)
    if content != before:
      seen_s = 0.0
    self._seen[what] = content, seen_s, now_s
    return seen_s > self._expiry_s


def launchers(folder: Path) -> list[Launcher]:
  """Those that have begun and not ended in order, the oldest first."""
  found = []
  for path in folder.glob(f"*{SUFFIX}"):
    try:
      found.append(Launcher.read(json.loads(_content(path))))
    # Half a file, of a disk that was full; or one that no launcher made.
    except (ValueError, RecursionError, IsADirectoryError):
      continue
  return sorted(filter(None, found), key=lambda each: each.started_unix_s)


def _remove_dead(folder: Path) -> None:
  """Removes the files of this machine's launchers that are gone.

  Without one a launcher is gone as well; see `_is_free`.
  """
  observer = Observer(folder)
  for each in launchers(folder):
    if each.is_of_this_machine and observer.is_gone(each):
      (folder / f"{each.token}{SUFFIX}").unlink(missing_ok=True)


def _content(path: Path) -> bytes:
  try:
    return path.read_bytes()
  except FileNotFoundError:
    return b""


def _is_free(path: Path) -> bool | None:
  """Whether nobody holds a file's lock; None where there are no locks.

  A launcher removes its file when it ends in order.
  """
  try:
    descriptor = os.open(path, os.O_RDONLY)
  except FileNotFoundError:
    return True
  try:
    # Shared: two that look at once must not take each other for the owner.
    fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
  except BlockingIOError:
    return False
  except OSError as error:
    if error.errno not in lock.NO_LOCKS:
      raise
    return None
  finally:
    os.close(descriptor)
  return True


def _boot_id() -> str:
  try:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
  except OSError:
    return ""
