"""The folders of runs that are to train: locked, and seen by all processes."""

import contextlib
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any

from normjax import errors, faults
from normjax.record import lock
from normjax.train.processes import distributed
from normjax.train.request import Run

# A network's file system may show a new file to other machines that late.
_SEEN_WITHIN_S = 60.0


def take(runs: Sequence[Run], locks: contextlib.ExitStack) -> None:
  """Makes and locks them, by the process that writes.

  Args:
    runs: in folders of their own.
    locks: is to free them.

  Raises:
    BusyRunError: another command trains in one of them.
    UserError: a process does not see them.
  """

  def make() -> list[dict[str, Any]]:
    for run in runs:
      faults.make_folder(run.directory)
      locks.enter_context(lock.held(run.directory, "run"))
    return [lock.taken_by(run.directory) for run in runs]

  owners = distributed.from_first(make)
  distributed.together(lambda: _check_seen(runs, owners))


def _check_seen(
  runs: Sequence[Run], owners: Sequence[Mapping[str, Any]]
) -> None:
  """Raises UserError where this process does not see what the first wrote."""
  deadline_s = time.monotonic() + _SEEN_WITHIN_S
  for run, owner in zip(runs, owners, strict=True):
    while lock.taken_by(run.directory) != owner:
      if time.monotonic() > deadline_s:
        raise errors.UserError(
          f"{run.directory} on {socket.gethostname()} is not the folder that"
          f" process 0 has on {owner['host']}: --out must be on a file system"
          " that all processes share."
        )
      time.sleep(0.1)
