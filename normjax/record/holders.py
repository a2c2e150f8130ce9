"""Whose the runs of a sweep are, for people who look at it."""

import os
from pathlib import Path

from normjax.record import lease, lock
from normjax.record.heartbeat import Launcher, Observer, launchers


def by_run(out: Path, observer: Observer) -> dict[str, Launcher]:
  """Whose runs are now, by run id, but for launchers known to be gone.

  Args:
    out: of the sweep.
    observer: of its leases.
  """
  folder = out / lease.FOLDER
  try:
    names = os.listdir(folder)
  except (FileNotFoundError, NotADirectoryError):
    return {}
  found = {}
  for run_id in {name.rpartition(".")[0] for name in names} - {""}:
    last = lease.newest(folder, run_id)
    if last is not None and last.launcher and last.word is lease.Word.HELD:
      found[run_id] = last.launcher
  gone = {each: observer.is_gone(each) for each in {*found.values()}}
  return {run_id: each for run_id, each in found.items() if not gone[each]}


def is_abandoned(out: Path, observer: Observer) -> bool:
  """Whether all launchers that have begun here are known to be gone.

  Nothing is known where none began.

  Args:
    out: of the sweep.
    observer: of its leases.
  """
  folder = out / lease.FOLDER
  if not folder.is_dir():  # As versions left it that had one launcher.
    return lock.is_abandoned(out)
  return all(map(observer.is_gone, launchers(folder)))


def observe(out: Path) -> Observer:
  """Of a sweep's launchers, for who looks at it again and again."""
  return Observer(out / lease.FOLDER)
