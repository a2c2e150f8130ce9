"""`<out>/expected.json`: what is expected, written before the first run.

Runs that were made under some statements are never judged by others: who has
seen a result could write down what it says.
"""

import datetime
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from normjax import errors, papers
from normjax.papers import kept
from normjax.record import files, provenance

FILE = "expected.json"
_OTHER_OUT = "Give another --out"


def said(name: str, scale: str, table: papers.Table) -> dict[str, Any]:
  """What the file holds."""
  return {
    "name": name,
    "scale": scale,
    "protocol": kept.PROTOCOL,
    "digest": papers.digest(table),
    "expected": papers.told(table),
  }


def check(out: Path, now: Mapping[str, Any], has_runs: bool) -> None:
  """Refuses to judge runs by what was not expected of them.

  Args:
    out: of the table.
    now: see `said`.
    has_runs: whether something was measured there.

  Raises:
    RunError: runs are there, made under other statements, or under none.
  """
  if not has_runs:
    return
  path = out / FILE
  before = files.read_json(path)
  if not isinstance(before, Mapping):
    raise errors.RunError(
      f"{out} has runs, but no {FILE}: what was expected of them was not"
      f" written down before. {_OTHER_OUT}."
    )
  for key, what in (
    ("name", "of table"),
    ("scale", "at scale"),
    ("protocol", "made under protocol"),
  ):
    if before.get(key) != now[key]:
      raise errors.RunError(
        f"{out} has runs {what} {before.get(key)}; this is {now[key]}."
        f" {_OTHER_OUT}."
      )
  if before.get("digest") != now["digest"]:
    was, is_now = _difference(before.get("expected"), now["expected"])
    raise errors.RunError(
      f"{out} has runs that were made under other statements: {was}; now"
      f" {is_now}. What is expected is written down before it is measured:"
      f" {_OTHER_OUT[0].lower()}{_OTHER_OUT[1:]}, or put the statement back."
    )


def write(out: Path, now: Mapping[str, Any]) -> None:
  """Writes the file where it says something new, with when that was."""
  before = files.read_json(out / FILE)
  if isinstance(before, Mapping) and {**before, "written": None} == {
    **now,
    "written": None,
  }:
    return
  when = {
    "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    "commit": (provenance.git() or {}).get("commit", ""),
  }
  files.write_json(out / FILE, {**now, "written": when})


def _difference(
  before: Any, now: Sequence[Mapping[str, Any]]
) -> tuple[str, str]:
  """The first statement that is not the same, as it was and as it is."""
  if isinstance(before, list):
    for was, is_now in itertools.zip_longest(before, now):
      if was != is_now:
        return _text(was), _text(is_now)
  return "others", "these"  # The file was written by hand.


def _text(statement: Any) -> str:
  """A statement with its bounds and cells: claims may read the same."""
  if not isinstance(statement, Mapping):
    return "none in its place"
  bounds = [
    f"{key}={statement[key]}"
    for key in ("at_least", "at_most")
    if statement.get(key) is not None
  ]
  try:
    cells = ", ".join(f"{w:g} {ref}" for ref, w in statement.get("terms", ()))
  except (TypeError, ValueError):  # Written by hand too.
    cells = f"terms={statement['terms']!r}"
  return f"{statement.get('claim')!r} ({'; '.join([cells, *bounds])})"
