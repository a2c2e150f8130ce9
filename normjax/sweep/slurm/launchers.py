"""The launchers of a sweep, those that are gone too, and their jobs.

A launcher that is killed leaves jobs behind. They end what they are at, and
themselves when they have waited for some time. Who starts the sweep again
cancels them first, so that no run is written by two: each writes a last
checkpoint, and goes on in a new job. They are found by their name, which SLURM
knows, so that none is forgotten whatever was on disk when the launcher ended.
"""

import contextlib
import json
import logging
import re
import secrets
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from normjax import errors
from normjax.record import files, lock
from normjax.sweep.slurm import cluster
from normjax.sweep.slurm.spool import BEAT

_LOG = logging.getLogger(__name__)
FOLDER = "slurm"
BEAT_S = 30.0
# Of a launcher on another machine, before its jobs are taken for nobody's.
_SILENCE_S = 3 * BEAT_S
# SLURM's KillWait is 30 s; some clusters give more.
_PATIENCE_S = 180.0
_POLL_S = 1.0


def name(out: Path) -> str:
  """A name for a launcher's folder and jobs, unlike any other's."""
  stem = re.sub(r"[^\w.-]", "_", out.absolute().name)
  return f"normjax-{stem}-{secrets.token_hex(4)}"


class Launcher:
  """One process that launches jobs for a sweep.

  Attributes:
    name: of its jobs.
    folder: with a folder for each.
  """

  def __init__(self, out: Path):
    """Makes nothing yet."""
    self.name = name(out)
    self.folder = out.absolute() / FOLDER / self.name
    self._lock = contextlib.ExitStack()
    self._is_claimed = False
    self._num_beats = 0
    self._beat_s = float("-inf")

  def claim(self) -> None:
    """Makes the folder, and cancels the jobs of launchers that are gone.

    Raises:
      RunError: their jobs do not end.
    """
    if self._is_claimed:
      return
    gone = _gone(self.folder.parent)
    _cancel([folder.name for folder in gone])
    for folder in gone:
      (folder / BEAT).unlink(missing_ok=True)
    self.folder.mkdir(parents=True, exist_ok=True)
    self._lock.enter_context(lock.held(self.folder, by="launcher"))
    self._is_claimed = True
    self.beat()

  def beat(self) -> None:
    """Tells now and then that it lives."""
    now_s = time.monotonic()
    if self._is_claimed and now_s - self._beat_s > BEAT_S:
      self._beat_s = now_s
      self._num_beats += 1
      files.write_text(
        self.folder / BEAT, f"{self._num_beats}\n", durable=False
      )

  def close(self) -> None:
    """Tells that it ends, and has no jobs any more."""
    if self._is_claimed:
      (self.folder / BEAT).unlink(missing_ok=True)
    self._lock.close()
    self._is_claimed = False


def _gone(parent: Path) -> list[Path]:
  """Folders of launchers that ended without a word."""
  unknown = {}
  gone = []
  for beat in sorted(parent.glob(f"*/{BEAT}")):
    if lock.is_abandoned(beat.parent):
      gone.append(beat.parent)
    elif _host(beat.parent) != socket.gethostname():
      unknown[beat] = _text(beat)
  if unknown:  # Of another machine, as where there are several login nodes.
    _LOG.warning(
      "waiting %g s for a sign of %d other launcher(s) of %s",
      _SILENCE_S,
      len(unknown),
      parent.parent,
    )
    time.sleep(_SILENCE_S)
    gone += [beat.parent for beat, text in unknown.items()
             if _text(beat) == text]  # fmt: skip
  return gone


def _host(folder: Path) -> str:
  """The machine of the launcher that locked a folder."""
  try:
    return json.loads(_text(folder / lock.NAME))["host"]
  except (ValueError, KeyError):
    return ""


def _text(path: Path) -> str:
  """Of a file that may have gone meanwhile."""
  try:
    return path.read_text()
  except OSError:
    return ""


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
