"""The launchers of a sweep that have jobs, and the jobs of those that are gone.

A launcher that is killed leaves jobs behind. They end what they are at, and
themselves when they have waited for some time. Who starts the sweep again
cancels them first, so that no run is written by two: each writes a last
checkpoint, and goes on in a new job. They are found by their name, which SLURM
knows, so that none is forgotten whatever was on disk when the launcher ended.
Jobs of launchers that work are left alone (`record.heartbeat`).
"""

import contextlib
import dataclasses
import logging
import re
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from normjax import errors
from normjax.record import files, heartbeat, holders, lease
from normjax.sweep.slurm import cluster

_LOG = logging.getLogger(__name__)
FOLDER = "slurm"
# Who has jobs; removed when there are none any more.
OWNER = "launcher.json"
# SLURM's KillWait is 30 s; some clusters give more.
_PATIENCE_S = 180.0
_POLL_S = 1.0


def name(out: Path, token: str = "") -> str:
  """The name of a launcher's folder and jobs, unlike any other's."""
  stem = re.sub(r"[^\w.-]", "_", out.absolute().name)
  return f"normjax-{stem}-{(token or uuid.uuid4().hex)[:8]}"


class Launcher:
  """This process, as its jobs know it.

  Attributes:
    name: of its jobs.
    folder: with a folder for each.
    sign: its sign of life.
  """

  def __init__(self, out: Path, descriptor: int):
    """Makes nothing yet.

    Args:
      out: of the sweep.
      descriptor: of the sign of life, as `Leases` has it.
    """
    self._out = out.absolute()
    self._self = heartbeat.read(descriptor)
    self.name = name(out, self._self.token)
    self.folder = self._out / FOLDER / self.name
    file = f"{self._self.token}{heartbeat.SUFFIX}"
    self.sign = self._out / lease.FOLDER / file
    self._is_claimed = False

  def claim(self) -> None:
    """Makes the folder, and cancels the jobs of launchers that are gone.

    Raises:
      RunError: their jobs do not end.
    """
    if self._is_claimed:
      return
    gone = _gone(self._out)
    _cancel([folder.name for folder in gone])
    for folder in gone:
      (folder / OWNER).unlink(missing_ok=True)
    files.write_json(self.folder / OWNER, dataclasses.asdict(self._self))
    self._is_claimed = True

  def close(self) -> None:
    """Tells that it has no jobs any more."""
    if self._is_claimed:
      (self.folder / OWNER).unlink(missing_ok=True)
    self._is_claimed = False


def _gone(out: Path) -> list[Path]:
  """Folders of launchers that ended without a word."""
  left = {}
  for path in sorted((out / FOLDER).glob(f"*/{OWNER}")):
    # Between the listing and the reading one may have ended in order.
    with contextlib.suppress(FileNotFoundError):
      left[path.parent] = heartbeat.Launcher.read(files.read_json(path))
  observer = holders.observe(out)
  before = _signs(out, left)
  gone, is_told = [], False
  deadline_s = time.monotonic() + heartbeat.EXPIRY_S + heartbeat.BEAT_S
  while left and time.monotonic() < deadline_s:
    now = _signs(out, left)
    for folder, launcher in list(left.items()):
      if launcher is None or observer.is_gone(launcher):
        gone.append(folder)
      elif not launcher.is_of_this_machine and now[folder] == before[folder]:
        continue
      del left[folder]
    if left and not is_told:
      is_told = True
      _LOG.warning(
        "waiting up to %g s for a sign of life of %s",
        heartbeat.EXPIRY_S,
        "; ".join(map(str, left.values())),
      )
    if left:
      time.sleep(_POLL_S)
  return gone


def _signs(
  out: Path, launchers: Mapping[Path, heartbeat.Launcher | None]
) -> dict[Path, str]:
  """The signs of life of launchers, by their folders."""
  signs = dict.fromkeys(launchers, "")
  for folder, launcher in launchers.items():
    file = f"{launcher.token if launcher else ''}{heartbeat.SUFFIX}"
    with contextlib.suppress(OSError):
      signs[folder] = (out / lease.FOLDER / file).read_text()
  return signs


def _cancel(names: Sequence[str]) -> None:
  """Cancels all jobs of these names, and waits for their end."""
  deadline_s = time.monotonic() + _PATIENCE_S
  is_told = False
  while names:
    states = cluster.states(names)
    left = [
      job_id
      for job_id, state in (states or {}).items()
      if state.stage != cluster.Stage.OVER
    ]
    if states is not None and not left:
      return
    if time.monotonic() > deadline_s:
      what = f"jobs {', '.join(left)}" if left else "squeue, which fails"
      raise errors.RunError(
        f"jobs of an earlier launcher may still run: waited {_PATIENCE_S:g} s"
        f" for {what}. End them, as with scancel, and run the same command"
        " again."
      )
    if left and not is_told:
      is_told = True
      _LOG.warning(
        "cancelling job(s) %s of a launcher that is gone; their runs go on in"
        " new ones",
        ", ".join(left),
      )
      cluster.cancel(left)
    time.sleep(_POLL_S)
