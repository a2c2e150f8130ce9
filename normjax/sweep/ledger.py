"""Where the points of a sweep are, read from their files.

A point is over when its `result.json` is whole; everything else about it is
a hint. `attempts.jsonl` of the sweep says how often it was tried.
"""

import contextlib
import dataclasses
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from normjax import errors, faults
from normjax.record import files

PLAN = "plan.json"
RUNS = "runs"
ATTEMPTS = "attempts.jsonl"
# What a point of a plan that was read must say.
_POINT_KEYS = frozenset(
  ("run_id", "stage", "method", "overrides", "seed", "program")
)


@dataclasses.dataclass(frozen=True)
class Entry:
  """One point.

  Attributes:
    state: "done", "diverged", "partial" (a checkpoint, or rows, of an
      earlier attempt), "failed" (its last attempt), or "pending".
    result: of `result.json`, where the point is over.
    failures: failed attempts, over the sweep's whole life.
    message: of the last failure.
  """

  state: str
  result: Mapping[str, Any] | None = None
  failures: int = 0
  message: str = ""

  @property
  def over(self) -> bool:
    """Whether the point has a result."""
    return self.result is not None


def run_directory(out: Path, run_id: str) -> Path:
  """Where a point's run lies."""
  return out / RUNS / run_id


def read(
  out: Path, run_ids: Iterable[str]
) -> tuple[dict[str, Entry], list[str]]:
  """The entries of the points, and a note for each file that is not whole."""
  attempts, notes = read_attempts(out)
  entries = {}
  for run_id in run_ids:
    own = attempts.get(run_id, [])
    failed = [row for row in own if row["state"] == "failed"]
    message = str(failed[-1].get("message", "")) if failed else ""
    result, note = read_result(run_directory(out, run_id))
    if note:
      notes.append(note)
    if result is not None:
      state = str(result["state"])
    elif own and own[-1]["state"] == "failed":
      state = "failed"
    elif _has_begun(run_directory(out, run_id)):
      state = "partial"
    else:
      state = "pending"
    entries[run_id] = Entry(state, result, len(failed), message)
  return entries, notes


def read_results(out: Path) -> dict[str, dict[str, Any]]:
  """All whole results below `out`, by run id."""
  results = {}
  for path in sorted((out / RUNS).glob(f"*/{files.RESULT}")):
    result, _ = read_result(path.parent)
    if result is not None:
      results[path.parent.name] = result
  return results


def read_result(directory: Path) -> tuple[dict[str, Any] | None, str]:
  """A run's result, or None; and what is wrong with its file, if anything."""
  path = directory / files.RESULT
  try:
    result = files.read_json(path)
  except (errors.RunError, UnicodeDecodeError):
    return None, f"{path} is not whole; the point runs again"
  if result is None:
    return None, ""
  if (
    not files.is_result(result)
    or result.get("run_id", directory.name) != directory.name
  ):
    return None, f"{path} is no result of this run; the point runs again"
  return result, ""


def set_aside(path: Path) -> None:
  """Moves a file that is not whole out of the way, keeping it."""
  path.replace(path.with_name(path.name + ".corrupt"))


def read_status(directory: Path) -> dict[str, Any]:
  """A run's status, or nothing: it is only for display."""
  try:
    status = files.read_json(directory / files.STATUS)
  except (errors.RunError, OSError):
    return {}
  return status if isinstance(status, dict) else {}


def read_plan(out: Path) -> tuple[dict[str, Any] | None, str]:
  """The sweep's plan, or None; and what is wrong with its file."""
  path = out / PLAN
  try:
    plan = files.read_json(path)
  except (errors.RunError, UnicodeDecodeError):
    plan = {}
  if plan is None:
    return None, ""
  if not _is_plan(plan):
    return None, f"{path} is not whole; made anew from the config"
  return plan, ""


def _is_plan(plan: Any) -> bool:
  """Whether all is there that another plan is compared with."""
  if not isinstance(plan, dict) or not {"sweep_id", "points"} <= set(plan):
    return False
  points, methods = plan["points"], plan.get("methods", [])
  return (
    isinstance(points, list)
    and all(isinstance(p, dict) and p.keys() >= _POINT_KEYS for p in points)
    and isinstance(methods, list)
    and all(
      isinstance(m, dict) and m.keys() >= {"label", "overrides"}
      for m in methods
    )
  )


def check_same(
  out: Path,
  plan: Mapping[str, Any],
  sweep_id: str,
  config_file: str,
  differences: Callable[[], str] | None = None,
) -> None:
  """Refuses to mix two sweeps in one directory.

  Raises:
    RunError: `out` holds another sweep; says in what they differ.
  """
  if plan["sweep_id"] != sweep_id:
    said = f": {differences()}" if differences is not None else ""
    raise errors.RunError(
      f"{out} holds sweep {plan['sweep_id']} of"
      f" {plan.get('config_file', 'another config')}; this is sweep"
      f" {sweep_id} of {config_file}{said}. Give another --out, or the config"
      " and overrides of that sweep."
    )


def read_attempts(
  out: Path,
) -> tuple[dict[str, list[dict[str, Any]]], list[str]]:
  """Attempts by run id, in order, and a note for each line that is none."""
  attempts: dict[str, list[dict[str, Any]]] = {}
  notes = []
  path = out / ATTEMPTS
  if not path.exists():
    return attempts, notes
  text = path.read_bytes().decode(errors="replace")
  for number, line in enumerate(text.splitlines(), 1):
    try:
      row = json.loads(line)
      attempts.setdefault(row["run_id"], []).append(
        {**row, "state": str(row["state"])}
      )
    except (ValueError, KeyError, TypeError):
      if line:
        notes.append(f"{path}:{number} is no attempt; dropped")
  return attempts, notes


@contextlib.contextmanager
def attempts_file(out: Path) -> Iterator["Attempts"]:
  """Opens `attempts.jsonl` for appending.

  A process killed while writing leaves a line without an end; a new line is
  begun first, so that the next row does not join it.
  """
  path = out / ATTEMPTS
  with path.open("ab+") as file:
    if file.tell():
      file.seek(-1, 2)
      if file.read(1) != b"\n":
        file.write(b"\n")
    yield Attempts(file)


@dataclasses.dataclass(frozen=True)
class Attempts:
  """Appends one flushed line an attempt."""

  file: Any

  def add(self, run_id: str, state: str, **facts: Any) -> None:
    """Writes what became of an attempt."""
    row = {"run_id": run_id, "state": state, "time_unix_s": time.time()}
    with faults.naming(self.file.name):
      self.file.write((json.dumps(files.finite(row | facts)) + "\n").encode())
      self.file.flush()


def _has_begun(directory: Path) -> bool:
  return any(
    (directory / name).exists() for name in (files.METRICS, files.CHECKPOINTS)
  )
