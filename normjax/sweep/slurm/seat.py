"""A job of the cluster as the launcher sees it."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from normjax.sweep import local, protocol
from normjax.sweep.executor import Died, Event, Interrupted, Lane, Note
from normjax.sweep.slurm.cluster import State
from normjax.sweep.slurm.spool import Spool, What, Word


@dataclasses.dataclass
class Seat:
  """A job, as the launcher sees it.

  Attributes:
    slot: that it is.
    job_id: SLURM's.
    spool: its folder.
    log: of the job itself.
    offset: answers before it have been read.
    number: of the last word.
    since: answers to earlier workers than this word's do not count.
    is_open: whether its slot has been started, and not ended.
    is_ready: whether its worker has been heard of.
    lanes: those that its worker has and that have not ended, by run id.
    held: interruptions whose cause is not known yet.
    left: why the job leaves, once it does.
    reason: SLURM's, of its waiting, as it was told last.
  """

  slot: int
  job_id: str
  spool: Spool
  log: Path
  offset: int = 0
  number: int = 0
  since: int = 0
  is_open: bool = True
  is_ready: bool = False
  lanes: dict[str, Lane] = dataclasses.field(default_factory=dict)
  held: list[Interrupted] = dataclasses.field(default_factory=list)
  left: str = ""
  reason: str = ""

  def say(self, what: What, request: str = "", grace_s: float = 0.0) -> None:
    """Asks the job for something."""
    self.number += 1
    self.spool.write_word(Word(self.number, what, request, grace_s))

  def close(self) -> None:
    """Forgets its worker; nothing more is told of it."""
    self.is_open = self.is_ready = False
    self.lanes, self.held, self.left = {}, [], ""

  def answer(self, row: Mapping[str, Any]) -> Event | None:
    """A line of the answers as an event of the slot; None where it leaves."""
    if "left" in row:
      self.left = row["left"]
      return None
    if "died" in row:
      return Died(self.slot, row["died"])
    if "note" in row:
      return Note(row["note"])
    try:
      said = protocol.read_answer(row["said"], slot=0)
    except protocol.ProtocolError as error:
      return Died(self.slot, str(error))
    return dataclasses.replace(said, slot=self.slot)

  def how_it_ended(self, state: State) -> str:
    """SLURM's word for the job, and the last lines of its log."""
    how = f"job {self.job_id} of SLURM ended: {state.word}"
    if state.reason not in ("", "None"):
      how += f" ({state.reason})"
    tail = local.log_tail(self.log)
    return f"{how}; the end of {self.log}: {tail}" if tail else how
