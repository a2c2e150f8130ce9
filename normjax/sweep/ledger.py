"""What the runs of a sweep have left, each read once.

A result never changes, so a run that is over is not read again; the others are,
at each `refresh`.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from normjax.record import target
from normjax.record.directory import (
  Attempt,
  RunRecord,
  RunState,
  SweepDirectory,
)


class Ledger:
  """The records of a sweep's runs, by run id."""

  def __init__(self, directory: SweepDirectory, metric: str = ""):
    """Reads nothing yet.

    Args:
      directory: of the sweep.
      metric: a target among the results' metrics, where it is one.
    """
    self.directory = directory
    self._metric = metric
    self._records: dict[str, RunRecord] = {}
    self._attempts: Mapping[str, list[Attempt]] | None = None
    self._problems: list[str] = []
    self._failed: frozenset[str] = frozenset()

  def refresh(self, failed: Iterable[str] = ()) -> None:
    """Forgets what may have changed.

    Args:
      failed: runs that will get no result.
    """
    self._attempts = None
    self._failed = frozenset(failed)
    self._records = {
      run_id: record
      for run_id, record in self._records.items()
      if record.state.over
    }

  def record(self, run_id: str) -> RunRecord:
    """What a run has left."""
    if run_id not in self._records:
      if self._attempts is None:
        self._attempts, self._problems = self.directory.read_attempts()
      run = self.directory.run(run_id)
      record = run.read(self._attempts.get(run_id, ()))
      if record.result is not None:
        names = (self._metric,)
        result = target.add(record.result, names, lambda: run.read_rows()[0])
        record = dataclasses.replace(record, result=result)
      self._records[run_id] = record
    return self._records[run_id]

  def get(self, run_id: str) -> Mapping[str, Any] | None:
    """How a run ended, as `plan.Results` says it."""
    result = self.record(run_id).result
    if result is None and run_id in self._failed:
      return {"state": RunState.FAILED}
    return result

  def notes(self, records: Iterable[RunRecord]) -> list[str]:
    """What is wrong with the files of runs, and what follows from it."""
    return [
      *self._problems,
      *(
        f"{text}; the point runs again" for r in records for text in r.problems
      ),
    ]
