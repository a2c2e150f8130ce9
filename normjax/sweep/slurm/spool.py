"""The folder by which a launcher and one of its jobs speak.

Each side writes one file that the other reads: a word, which is replaced at
once, and answers, to which lines are added. Both are opened anew each time they
are read, which is when a network file system looks for what has changed. No
lock is needed, and no listing of a folder is relied on.
"""

import dataclasses
import enum
import errno
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from normjax import errors, faults
from normjax.record import files

WORD = "word.json"
ANSWERS = "answers.jsonl"
# Of a file that is not there yet, or was replaced on its server just now.
_LATER = (errno.ENOENT, errno.ESTALE)


class What(enum.StrEnum):
  """What a job is asked to do."""

  START = "start"  # End the worker, if there is one, and start another.
  RUN = "run"
  END = "end"  # End the worker at once.
  LEAVE = "leave"  # End all in order, the job too.


@dataclasses.dataclass(frozen=True)
class Word:
  """The last thing that the launcher asked of a job.

  Attributes:
    number: they are counted; a job that begins anew does none again.
    what: see `What`.
    request: of RUN, as `protocol.write_request` has it.
    grace_s: of LEAVE, for last checkpoints.
  """

  number: int
  what: What
  request: str = ""
  grace_s: float = 0.0


class Spool:
  """The folder of one job."""

  def __init__(self, folder: Path):
    """Makes nothing."""
    self.folder = folder

  def write_word(self, word: Word) -> None:
    """Replaces the word."""
    files.write_json(self.folder / WORD, dataclasses.asdict(word))

  def read_word(self) -> Word | None:
    """The word; None where there is none yet."""
    row = _read(self.folder / WORD)
    return row and Word(**row | {"what": What(row["what"])})

  def tell(self, **row: Any) -> None:
    """Adds a line to the answers; closed at once, so that it is seen."""
    path = self.folder / ANSWERS
    with faults.naming(path), path.open("a") as file:
      file.write(json.dumps(row) + "\n")

  def begin(self) -> None:
    """Ends what a job that was killed may have left of a line."""
    with (self.folder / ANSWERS).open("a") as file:
      file.write("\n")

  def answers(self, offset: int) -> Iterator[tuple[dict[str, Any], int]]:
    """The whole lines from an offset on, each with the offset behind it."""
    try:
      with (self.folder / ANSWERS).open("rb") as file:
        file.seek(offset)
        text = file.read()
    except OSError as error:
      if error.errno not in _LATER:
        raise
      return
    for line in text.splitlines(keepends=True):
      if not line.endswith(b"\n"):
        return
      offset += len(line)
      try:
        row = json.loads(line)
      except ValueError:  # What was left of a line, or nothing.
        continue
      yield row, offset


def _read(path: Path) -> Any:
  """The JSON of a file that may be replaced while it is read."""
  for _ in range(3):
    try:
      return files.read_json(path)
    except OSError as error:
      # On a network file system the old one may be gone under its reader.
      failed = error
  raise errors.RunError(f"{path} cannot be read: {failed.strerror}")
