"""JSON files that are whole or absent, and metric rows that survive a kill."""

import json
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from normjax import errors, faults

SCHEMA = 1
RUN = "run.json"
METRICS = "metrics.jsonl"
STATUS = "status.json"
RESULT = "result.json"
CHECKPOINTS = "ckpt"
# How a run may end, as its result says it.
OVER = ("done", "diverged")

Row = dict[str, Any]


def finite(value: Any) -> Any:
  """`value` with every non-finite float replaced by None, recursively.

  JSON has no NaN, and a report must not have to guess.
  """
  if isinstance(value, Mapping):
    return {key: finite(item) for key, item in value.items()}
  if isinstance(value, list | tuple):
    return [finite(item) for item in value]
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
  """Replaces a file at once: a reader sees the old one or the new one.

  Args:
    path: its folder is made where missing.
    text: the new content.
    durable: whether it must survive a power cut; costs a flush of the disk.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  handle, name = tempfile.mkstemp(
    dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"
  )
  try:
    with faults.naming(path), os.fdopen(handle, "w") as file:
      file.write(text)
      if durable:
        file.flush()
        os.fsync(file.fileno())
    os.replace(name, path)
  except BaseException:
    Path(name).unlink(missing_ok=True)
    raise


def write_json(path: Path, value: Any, *, durable: bool = True) -> None:
  """Writes JSON atomically; non-finite numbers become null."""
  text = json.dumps(finite(value), indent=2, allow_nan=False)
  write_text(path, text + "\n", durable=durable)


def read_json(path: Path) -> Any | None:
  """The file's value, or None where there is no file.

  Raises:
    RunError: the file is not JSON.
  """
  try:
    return json.loads(path.read_text())
  except FileNotFoundError:
    return None
  except ValueError as error:
    raise errors.RunError(f"{path} is not valid JSON: {error}") from error


def is_result(value: Any) -> bool:
  """Whether the value of a result.json says how a run ended."""
  return (
    isinstance(value, dict)
    and value.get("state") in OVER
    and isinstance(value.get("metrics"), dict)
  )


def read_notes(path: Path) -> tuple[list[int], list[str]]:
  """The steps of resumptions and the problems that a run.json has noted.

  Raises:
    RunError: the file is not JSON, or does not say them as lists.
  """
  value = read_json(path)
  if value is None:
    return [], []
  if isinstance(value, dict):
    steps = value.get("resumed_at_steps", [])
    problems = value.get("problems", [])
    if isinstance(steps, list) and isinstance(problems, list):
      return steps, problems
  raise errors.RunError(f"{path} was no run's file; it was written anew")


def read_rows(path: Path) -> tuple[list[Row], list[str]]:
  """Rows of a metrics.jsonl, and a note for each line that is none.

  A process killed while writing leaves at most a truncated last line.
  """
  rows, problems = [], []
  if not path.exists():
    return rows, problems
  text = path.read_bytes().decode(errors="replace")
  for number, line in enumerate(text.splitlines(), 1):
    try:
      row = json.loads(line)
      int(row["step"]), str(row["kind"])
    except (ValueError, KeyError, TypeError):
      problems.append(f"{path}:{number} is not a metric row; dropped")
    else:
      rows.append(row)
  return rows, problems


def lost_rows(
  rows: Iterable[Row], step: int, every_steps: Mapping[str, int]
) -> list[str]:
  """What is wrong with the rows of the steps before a checkpoint, if anything.

  They were on disk before it was: another file lies there than was written.

  Args:
    rows: of the file.
    step: of the checkpoint.
    every_steps: how often there is a row, by its kind.
  """
  rows = list(rows)
  wrong = []
  for kind, every in every_steps.items():
    found = [r["step"] for r in rows if r["kind"] == kind and r["step"] < step]
    wanted = list(range(0, step, every))
    if found != wanted:
      wrong.append(f"{len(found)} of kind {kind!r} in place of {len(wanted)}")
  if not wrong:
    return []
  return [
    f"{METRICS} lacks rows of steps before {step}, or has some twice:"
    f" {', '.join(wrong)}"
  ]


class MetricsFile:
  """Appends rows to a metrics.jsonl, one flushed line each."""

  def __init__(self, path: Path, keep: Callable[[Row], bool]):
    """Opens the file after dropping rows that are not whole or not kept.

    Args:
      path: created where missing.
      keep: which of the rows already there stay; a resumed run drops what
        lies past its checkpoint.
    """
    rows, self.problems = read_rows(path)
    kept = [row for row in rows if keep(row)]
    self.rows = kept
    self._path = path
    if len(kept) < len(rows) or self.problems:
      write_text(path, "".join(json.dumps(row) + "\n" for row in kept))
    self._file = path.open("a")

  def append(self, row: Row) -> None:
    """Writes one row; non-finite numbers become null."""
    with faults.naming(self._path):
      self._file.write(json.dumps(finite(row), allow_nan=False) + "\n")
      self._file.flush()

  def sync(self) -> None:
    """Makes what was appended durable: called before a checkpoint is."""
    with faults.naming(self._path):
      os.fsync(self._file.fileno())

  def close(self) -> None:
    """Closes the file."""
    with faults.naming(self._path):
      self._file.close()
