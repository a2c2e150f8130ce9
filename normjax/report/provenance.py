"""Where the runs' numbers came from: code, packages, machines, times."""

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from normjax import configure
from normjax.record import sources
from normjax.report.load import Run, SweepRecord
from normjax.report.tables import NOTHING

# Differ between runs by their nature.
_UNIQUE = ("created", "git.diff", "git.diff_file", "population.place")


@dataclasses.dataclass(frozen=True)
class Provenance:
  """One line of provenance: its values with the number of runs of each."""

  name: str
  values: tuple[tuple[str, int], ...]

  @property
  def differs(self) -> bool:
    """Runs were not made alike."""
    return len(self.values) > 1


def lines(sweep: SweepRecord) -> list[Provenance]:
  """Where the runs' numbers came from; differing values side by side."""
  counts: dict[str, Counter[str]] = {}
  for run in sweep.runs:
    record = run.record.get("provenance", {})
    for path, value in configure.leaves(record):
      if path not in _UNIQUE:
        text = value if isinstance(value, str) else json.dumps(value)
        counts.setdefault(path, Counter())[text] += 1
  return [
    Provenance(name, tuple(values.most_common()))
    for name, values in counts.items()
  ]


def created(sweep: SweepRecord) -> str:
  """First and last start of a run, UTC."""
  times = sorted(
    time
    for run in sweep.runs
    if (time := run.record.get("provenance", {}).get("created"))
  )
  if not times:
    return NOTHING
  first, last = (time[:19].replace("T", " ") for time in (times[0], times[-1]))
  return f"{first} to {last}"


def diffs(sweep: SweepRecord) -> list[str]:
  """Distinct uncommitted changes."""
  found = (_diff(run) for run in sweep.runs)
  return list(dict.fromkeys(diff for diff in found if diff))


def _diff(run: Run) -> str:
  """A run's uncommitted changes; runs of earlier versions hold the text."""
  found = git(run)
  kept = found.get("diff_file")
  if not kept or run.directory is None:
    return found.get("diff", "")
  return sources.read(run.directory.sources, kept)


def git(run: Run) -> Mapping[str, Any]:
  """Commit and state of the checkout that a run was made from; {}: none."""
  return run.record.get("provenance", {}).get("git") or {}
