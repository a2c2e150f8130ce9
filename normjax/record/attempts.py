"""The lines of a sweep's `attempts.jsonl`: one per attempt at a run."""

import contextlib
import dataclasses
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from normjax import faults
from normjax.record import files, lock, schema
from normjax.record.state import RunState


@dataclasses.dataclass(frozen=True)
class Attempt:
  """How one attempt at a run ended, as the sweep saw it."""

  state: RunState
  message: str = ""
  time_unix_s: float | None = None


@dataclasses.dataclass(frozen=True)
class Attempts:
  """Appends one line per attempt, whoever else does.

  Attributes:
    file: open for reading and appending, without a buffer.
  """

  file: IO[bytes]

  def add(self, run_id: str, state: RunState, **facts: Any) -> None:
    """Writes what became of an attempt.

    A process killed while writing leaves a line without an end; a new line
    is begun first, so that the next row does not join it. Where machines share
    a file system, its end is where the lock's holder sees it.
    """
    row = {"run_id": run_id, "state": state, "time_unix_s": time.time()}
    line = (json.dumps(files.finite(row | facts)) + "\n").encode()
    path = Path(self.file.name)
    with faults.naming(path), lock.briefly(self.file.fileno(), path):
      end = self.file.seek(0, os.SEEK_END)
      if end and os.pread(self.file.fileno(), 1, end - 1) != b"\n":
        line = b"\n" + line
      while line:
        line = line[self.file.write(line) :]


def read(path: Path) -> tuple[dict[str, list[Attempt]], list[str]]:
  """Attempts by run id, in order, and a note for each line that is none."""
  attempts: dict[str, list[Attempt]] = {}
  try:
    text = path.read_bytes().decode(errors="replace")
  except FileNotFoundError:
    return attempts, []
  except OSError as error:
    return attempts, [f"{path} cannot be read: {error.strerror}"]
  problems = []
  for number, line in enumerate(text.splitlines(), 1):
    try:
      row = json.loads(line)
      if schema.problem(row, schema.ATTEMPT):
        raise ValueError
    except (ValueError, RecursionError):
      if line:
        problems.append(f"{path}:{number} is no attempt; dropped")
    else:
      attempts.setdefault(row["run_id"], []).append(
        Attempt(
          RunState(row["state"]),
          row.get("message") or "",
          row.get("time_unix_s"),
        )
      )
  return attempts, problems


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Attempts]:
  """Opens the file for appending, also by several launchers."""
  with path.open("ab+", buffering=0) as file:
    yield Attempts(file)
