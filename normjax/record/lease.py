"""Whose a point is, where several launchers share the folder of a sweep.

    <out>/leases/<run id>.1, .2, …    whose the run was, one after the other
    <out>/leases/<token>.launcher     a launcher's sign of life; see `heartbeat`

The last of a run's files says whose it is now. A file is made once
(`files.create_text`) and never changed: who takes over a run makes the next
number, and of several who try, one succeeds. So nobody ever takes away what
another has just taken, and a number that is passed never comes back, as long
as the run is not over. Of a run that is over the files are removed.

A worker whose run was taken over, because its machine seemed dead, finds a
later number: it ends before it writes a result (`check`, `confirm`).

| the last file says | the run is |
|---|---|
| nothing: there is none | free |
| held, and its launcher works | that launcher's |
| held, and its launcher is gone | free: the next number takes it over |
| given up, and its launcher works | not to be tried by others either |
| given up, and its launcher is gone | free: another call tries again |
| released | free |
"""

import contextlib
import dataclasses
import enum
import itertools
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from normjax import errors
from normjax.record import files, heartbeat
from normjax.record.heartbeat import (
  BEAT_S,
  EXPIRY_S,
  Heartbeat,
  Launcher,
  Observer,
)

FOLDER = "leases"
# In the environment of a launcher's workers: whose they are.
VARIABLE = "NORMJAX_LAUNCHER"


class Word(enum.StrEnum):
  """What a lease says."""

  HELD = "held"
  GIVEN_UP = "given up"
  RELEASED = "released"


@dataclasses.dataclass(frozen=True)
class Lease:
  """One file of a run's.

  Attributes:
    number: of the file; a later one passes it.
    launcher: who made it; None where the file cannot be read.
    word: what it says.
    message: why the run was given up.
    content: of the file.
  """

  number: int
  launcher: Launcher | None
  word: Word = Word.HELD
  message: str = ""
  content: bytes = b""


class Leases:
  """A launcher's own leases, and what it sees of the others'.

  Used in a `with` block: the launcher gives signs of life as long as it runs,
  and at its end releases what it has.
  """

  def __init__(
    self, out: Path, *, beat_s: float = BEAT_S, expiry_s: float = EXPIRY_S
  ):
    """Takes nothing yet.

    Args:
      out: of the sweep.
      beat_s: see `Heartbeat`.
      expiry_s: see `Observer`.
    """
    self._folder = out / FOLDER
    self._heart = Heartbeat(self._folder, beat_s=beat_s, at_each=self._look)
    self._observer = Observer(self._folder, expiry_s=expiry_s)
    self._lock = threading.Lock()
    self._held: dict[str, int] = {}  # Run id to the number of its file.
    self._lost: dict[str, Lease | None] = {}

  def __enter__(self) -> "Leases":
    """Begins to give signs of life."""
    self._heart.__enter__()
    return self

  def __exit__(self, *exception: Any) -> None:
    """Releases what it has, in order."""
    try:
      # On a disk that is full, that this launcher is gone must do.
      with contextlib.suppress(OSError):
        # In a folder that is gone there is nothing to release.
        for run_id in [] if self._heart.is_lost else list(self._held):
          self.release(run_id)
    finally:
      self._heart.__exit__(*exception)

  @property
  def launcher(self) -> Launcher:
    """This one."""
    return self._heart.launcher

  @property
  def descriptor(self) -> int:
    """Of the file whose lock says that it works, for workers to inherit."""
    return self._heart.descriptor

  def check_found(self) -> None:
    """Raises RunError where others cannot see any more that this one works."""
    if self._heart.is_lost:
      raise errors.RunError(
        f"{self._heart.path} is gone: the folder was moved, removed or replaced"
        " while this sweep ran in it. Its workers are ended; the same command"
        " goes on where the folder is now."
      )

  def take(self, run_id: str) -> Lease | None:
    """Takes a run's lease; the other launcher's that has it, or None.

    Whoever takes one looks for a result again: another launcher may have
    ended the run since.
    """
    while True:
      last = newest(self._folder, run_id)
      if last is not None and self._is_mine(last) and last.word is Word.HELD:
        with self._lock:
          self._held[run_id] = last.number
        return None
      if last is not None and not self._is_free(run_id, last):
        return last
      number = 1 if last is None else last.number + 1
      if self._write(run_id, number, Word.HELD):
        with self._lock:
          self._held[run_id] = number
        return None
      # Whoever made that number lives: also a worker of a launcher that seems
      # gone, which is about to write the result.
      if (found := newest(self._folder, run_id)) and found.launcher:
        self._observer.lives(found.launcher)

  def holder(self, run_id: str) -> Lease | None:
    """The lease of another launcher that works, or None."""
    last = newest(self._folder, run_id)
    if last is None or self._is_mine(last) or self._is_free(run_id, last):
      return None
    return last

  def release(self, run_id: str, given_up: str = "") -> None:
    """Gives a run back.

    Args:
      run_id: of the run; one that is not held is none of ours.
      given_up: why this launcher does not try it again, where that is so:
        others do not either, as long as it works.
    """
    with self._lock:
      number = self._held.pop(run_id, None)
    if number is None:
      return
    word = Word.GIVEN_UP if given_up else Word.RELEASED
    # A worker may have confirmed it, with the next number.
    while not self._write(run_id, number + 1, word, given_up):
      number += 1
      last = newest(self._folder, run_id)
      if last is None or not self._is_mine(last):
        return

  def forget(self, run_id: str) -> None:
    """Removes the files of a run that is over.

    The last one first, and the one that this launcher made while another
    removed those before it: behind a gap it would be there for ever.
    """
    with self._lock:
      held = self._held.pop(run_id, 0)
    last = sum(1 for _ in _chain(self._folder, run_id))
    for number in range(max(held, last), 0, -1):
      _path(self._folder, run_id, number).unlink(missing_ok=True)

  def lost(self) -> dict[str, Lease | None]:
    """Runs that were taken over since the last call, and by which lease."""
    with self._lock:
      lost, self._lost = self._lost, {}
    return lost

  def holds(self, run_id: str) -> bool:
    """Whether a run is still this launcher's."""
    with self._lock:
      if run_id not in self._held:
        return False
    last = newest(self._folder, run_id)
    return last is not None and self._is_mine(last)

  def _look(self) -> None:
    """Finds what was taken over; called by the thread that counts."""
    with self._lock:
      held = list(self._held)
    for run_id in held:
      last = newest(self._folder, run_id)
      if last is not None and self._is_mine(last):
        continue
      with self._lock:
        # Unless the run ended, and was forgotten, in the meantime.
        if self._held.pop(run_id, None) is not None:
          self._lost[run_id] = last

  def _is_mine(self, lease: Lease) -> bool:
    return (
      lease.launcher is not None and lease.launcher.token == self.launcher.token
    )

  def _is_free(self, run_id: str, lease: Lease) -> bool:
    if lease.word is Word.RELEASED or self._is_mine(lease):
      return True
    if lease.launcher is None:  # Half a file: of a disk that is full, maybe.
      return self._observer.is_still(f"{run_id}.{lease.number}", lease.content)
    return self._observer.is_gone(lease.launcher)

  def _write(
    self, run_id: str, number: int, word: Word, message: str = ""
  ) -> bool:
    return _write(self._folder, run_id, number, self.launcher, word, message)


# ----- What workers ask -----


def environment(descriptor: int) -> dict[str, str]:
  """For a worker's environment: whose it is.

  Args:
    descriptor: of its launcher's sign of life, as `Leases` has it.
  """
  return {VARIABLE: heartbeat.read(descriptor).token}


def check(directory: Path) -> None:
  """Ends a run that is another launcher's by now.

  Args:
    directory: of the run.

  Raises:
    LostLeaseError: it was taken over.
  """
  _check(directory, confirms=False)


def confirm(directory: Path) -> None:
  """Makes sure that a run is still ours: nobody takes it over before long.

  It makes the next number, so that not even a file system that shows old
  names can hide a successor. Called before a result is written.

  Args:
    directory: of the run.

  Raises:
    LostLeaseError: it was taken over.
  """
  _check(directory, confirms=True)


def _check(directory: Path, *, confirms: bool) -> None:
  folder, run_id = directory.parent.parent / FOLDER, directory.name
  token = os.environ.get(VARIABLE)
  if not token or not folder.is_dir():
    return  # No launcher's worker, as of `normjax train`.
  while True:
    last = newest(folder, run_id)
    if last is None or last.launcher is None:
      break
    if last.launcher.token != token or last.word is not Word.HELD:
      break
    number = last.number + 1
    if not confirms or _write(folder, run_id, number, last.launcher, Word.HELD):
      return
  by = last.launcher if last is not None and last.launcher else "another"
  raise errors.LostLeaseError(
    f"{directory} was taken over by {by}: no sign of life of this run's"
    " launcher was seen"
  )


# ----- Files -----


def _path(folder: Path, run_id: str, number: int) -> Path:
  return folder / f"{run_id}.{number}"


def newest(folder: Path, run_id: str) -> Lease | None:
  """The last of a run's files."""
  found = None
  for lease in _chain(folder, run_id):
    found = lease
  return None if found is None else _read(found)


def _chain(folder: Path, run_id: str) -> Iterator[Lease]:
  for number in itertools.count(1):
    try:
      content = _path(folder, run_id, number).read_bytes()
    except FileNotFoundError:
      return
    yield Lease(number, None, content=content)


def _read(lease: Lease) -> Lease:
  """What a file says."""
  try:
    value = json.loads(lease.content)
    return dataclasses.replace(
      lease,
      launcher=Launcher.read(value["launcher"]),
      word=Word(value["word"]),
      message=str(value["message"]),
    )
  except (ValueError, KeyError, TypeError, RecursionError):
    return lease


def _write(
  folder: Path,
  run_id: str,
  number: int,
  launcher: Launcher,
  word: Word,
  message: str = "",
) -> bool:
  """Makes a run's file of a number; False where there is one."""
  value = {
    "launcher": dataclasses.asdict(launcher),
    "word": word,
    "message": message,
  }
  text = json.dumps(value) + "\n"
  return files.create_text(_path(folder, run_id, number), text)
