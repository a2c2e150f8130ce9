"""The one reader and writer of a run's directory, and of a sweep's.

    <out>/plan.json            which runs a sweep needs
    <out>/attempts.jsonl       one line per attempt at a run, and how it ended
    <out>/leases/              whose the runs are now; see `lease`
    <out>/sources/             a user's own code, by its hash; see `sources`
    <out>/runs/<run id>/       a run:
      run.json                 resolved config and provenance
      metrics.jsonl            one row per line
      status.json              where it is now
      ckpt/                    checkpoints
      result.json              how it ended
      sources/                 of a run that is no sweep's

A file that is damaged, another run's, or of another schema counts as absent
and costs its own run alone: the reader says which file, and what is wrong with
it. What the files say together is a `RunState`; nobody else decides it.
"""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from normjax import errors
from normjax.record import attempts as attempts_lib
from normjax.record import files, lease, lock, schema
from normjax.record.attempts import Attempt, Attempts
from normjax.record.state import RunState

PLAN = "plan.json"
ATTEMPTS = "attempts.jsonl"
RUNS = "runs"
SOURCES = "sources"


class Found(NamedTuple):
  """What a file holds.

  Attributes:
    value: None where there is no file, or none that can be used.
    problem: names the file and what is wrong with it; "" where nothing is.
    blocked: the file may well be whole, but this process cannot read it: a
      newer version wrote it, or the disk refuses. Nobody may write over it.
  """

  value: dict[str, Any] | None
  problem: str = ""
  blocked: bool = False


@dataclasses.dataclass(frozen=True)
class RunRecord:
  """What a run has left so far.

  Attributes:
    result: of `result.json`, where the run is over.
    status: of `status.json`, where the run is not over; {} without one.
    failures: failed attempts, over the sweep's whole life.
    message: of the last failure.
    problems: what is wrong with the files that were read.
    blocked: why the run must not go on here; "" where it may.
  """

  run_id: str
  state: RunState
  result: Mapping[str, Any] | None = None
  status: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  failures: int = 0
  message: str = ""
  problems: tuple[str, ...] = ()
  blocked: str = ""


@dataclasses.dataclass(frozen=True)
class RunDirectory:
  """The files of one run.

  Attributes:
    path: the directory.
    run_id: whose it is; files that name another run are not read.
  """

  path: Path
  run_id: str

  @classmethod
  def at(cls, path: Path) -> "RunDirectory":
    """The run in a directory of any name: its `run.json` says whose it is."""
    return cls(path, cls(path, path.name).whose)

  @property
  def whose(self) -> str:
    """The run that `run.json` names; this one where it names none."""
    value = read_file(self.path / files.RUN, schema.RUN).value or {}
    return value.get("run_id", self.run_id)

  @property
  def checkpoints(self) -> Path:
    """The folder of the checkpoints."""
    return self.path / files.CHECKPOINTS

  @property
  def sources(self) -> Path:
    """The folder of kept code: the sweep's, where the run is of one."""
    out = self.path.parent.parent
    in_sweep = self.path.parent.name == RUNS and (out / PLAN).exists()
    return (out if in_sweep else self.path) / SOURCES

  # ----- Reading -----

  def read(self, attempts: Sequence[Attempt] = ()) -> RunRecord:
    """What the files say together.

    Args:
      attempts: what the sweep knows of this run, the newest last.
    """
    failed = [each for each in attempts if each.state is RunState.FAILED]
    message = failed[-1].message if failed else ""
    found = self.read_result()
    problems = [found.problem]
    status: Mapping[str, Any] = {}
    if found.value is not None:
      state = RunState(found.value["state"])
    else:
      told = self.read_status()
      status = told.value or {}
      problems.append(told.problem)
      state = self._state(status, attempts[-1] if attempts else None)
      if state is RunState.FAILED and status.get("state") == state:
        message = status.get("message") or message
    return RunRecord(
      run_id=self.run_id,
      state=state,
      result=found.value,
      status=status,
      failures=len(failed),
      message=message,
      problems=tuple(filter(None, problems)),
      blocked=found.problem if found.blocked else "",
    )

  def _state(self, status: Mapping[str, Any], last: Attempt | None) -> RunState:
    """The state of a run without a result; see `RunState`."""
    newest = status.get("state")
    if last is not None and _is_later(last, status):
      newest = last.state
    if newest == RunState.FAILED:
      return RunState.FAILED
    if newest == RunState.RUNNING and not lock.is_abandoned(self.path):
      return RunState.RUNNING
    left = (files.RUN, files.STATUS, files.METRICS, files.CHECKPOINTS)
    if any((self.path / name).exists() for name in left):
      return RunState.INTERRUPTED
    return RunState.PENDING

  def read_result(self) -> Found:
    """`result.json`, where it is this run's and whole."""
    return self._read(files.RESULT, schema.RESULT)

  def read_status(self) -> Found:
    """`status.json`; how the run ended is not for it to say."""
    return self._read(files.STATUS, schema.STATUS)

  def read_run(self) -> Found:
    """`run.json`: config and provenance."""
    return self._read(files.RUN, schema.RUN)

  def read_rows(self) -> tuple[list[files.Row], list[str]]:
    """Rows of `metrics.jsonl`, and what is wrong with the file."""
    return files.read_rows(self.path / files.METRICS, self.run_id)

  def _read(self, name: str, fields: schema.Fields) -> Found:
    found = read_file(self.path / name, fields)
    if found.value is None:
      return found
    owner = found.value.get("run_id", self.run_id)
    if owner != self.run_id:
      return Found(
        None, f"{self.path / name} is of run {owner}, not of this one"
      )
    return found

  def check_usable(self) -> None:
    """Keeps a run from going on where this process cannot read.

    Raises:
      RunError: a newer version has begun here, or the disk refuses.
    """
    for found in (self.read_run(), self.read_result()):
      if found.blocked:
        raise errors.RunError(
          f"{found.problem}. Give another --out, or mend that."
        )

  # ----- Writing -----

  def check_held(self) -> None:
    """Ends a run that is another launcher's by now.

    Raises:
      LostLeaseError: it was taken over.
    """
    lease.check(self.path)

  def write_run(self, **fields: Any) -> None:
    """Replaces `run.json`.

    Raises:
      LostLeaseError: another launcher has taken the run over.
    """
    lease.check(self.path)
    self._write(files.RUN, fields)

  def write_status(self, state: RunState, **fields: Any) -> None:
    """Replaces `status.json`; may be lost in a power cut.

    Raises:
      LostLeaseError: another launcher has taken the run over. Last words are
        left out then: they are the other's to say.
    """
    try:
      lease.check(self.path)
    except errors.LostLeaseError:
      if state is RunState.RUNNING:
        raise
      return
    value = {"state": state, **fields}
    files.write_json(self.path / files.STATUS, value, durable=False)

  def write_result(self, state: RunState, **fields: Any) -> dict[str, Any]:
    """Writes `result.json`, which ends the run; returns what it holds.

    Of two that end a run, as where one seemed dead, the first one's stays: what
    others have read must not change.

    Raises:
      LostLeaseError: another launcher has taken the run over.
    """
    lease.confirm(self.path)
    if (there := self.read_result().value) is not None:
      return dict(there)
    return self._write(files.RESULT, {"state": state, **fields})

  def _write(self, name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    value = {"schema": files.SCHEMA, "run_id": self.run_id, **fields}
    files.write_json(self.path / name, value)
    return files.finite(value)

  def open_metrics(
    self, keep: Callable[[files.Row], bool]
  ) -> files.MetricsFile:
    """Opens `metrics.jsonl` for appending; see `files.MetricsFile`."""
    return files.MetricsFile(self.path / files.METRICS, keep, self.run_id)

  def set_result_aside(self) -> str:
    """Keeps a `result.json` that is none of this run's; a note of it, or "".

    A runner takes a result.json, even half of one, for the end. Of a directory
    that is another run's nothing is moved; see `owner.check`.
    """
    path = self.path / files.RESULT
    if not path.exists() or self.read_result().value is not None:
      return ""
    if self.whose != self.run_id:
      return ""
    aside = files.set_aside(path)
    return f"{path.name} was not this run's; it was moved to {aside.name}"


@dataclasses.dataclass(frozen=True)
class SweepDirectory:
  """The files of a sweep."""

  out: Path

  def run(self, run_id: str) -> RunDirectory:
    """The directory of one of its runs."""
    return RunDirectory(self.out / RUNS / run_id, run_id)

  def read(
    self, run_ids: Iterable[str]
  ) -> tuple[dict[str, RunRecord], list[str]]:
    """What runs have left, by run id, and what is wrong with the files."""
    attempts, problems = self.read_attempts()
    records = {
      run_id: self.run(run_id).read(attempts.get(run_id, ()))
      for run_id in run_ids
    }
    for record in records.values():
      problems += record.problems
    return records, problems

  def read_plan(self) -> Found:
    """`plan.json`.

    Raises:
      RunError: a newer version wrote it, or the disk refuses.
    """
    path = self.out / PLAN
    found = read_file(path, schema.PLAN)
    if found.blocked:
      raise errors.RunError(f"{found.problem}.")
    problem = schema.stray_method(found.value) if found.value else ""
    return Found(None, f"{path} {problem}") if problem else found

  def write_plan(self, plan: Mapping[str, Any]) -> bool:
    """Writes `plan.json` where it says something new.

    Returns:
      False where the plan of another sweep lies there, or another launcher has
      just written the first one.
    """
    path = self.out / PLAN
    value = files.finite({"schema": files.SCHEMA, **plan})
    old = self.read_plan().value
    if old is not None and old["sweep_id"] != value["sweep_id"]:
      return False
    if old == value:
      return True
    if not path.exists():
      return files.create_text(path, _plan_text(value))
    files.write_text(path, _plan_text(value))
    return True

  def read_attempts(self) -> tuple[dict[str, list[Attempt]], list[str]]:
    """Attempts by run id, in order, and a note for each line that is none."""
    return attempts_lib.read(self.out / ATTEMPTS)

  def open_attempts(self) -> contextlib.AbstractContextManager[Attempts]:
    """Opens `attempts.jsonl` for appending, also by several launchers."""
    return attempts_lib.opened(self.out / ATTEMPTS)


def find_runs(out: Path) -> list[Path]:
  """The runs in a folder that has no plan: itself, or folders in it.

  Raises:
    RunError: there is none.
  """
  found = sorted(
    path.parent
    for pattern in (files.RUN, f"*/{files.RUN}", f"{RUNS}/*/{files.RUN}")
    for path in out.glob(pattern)
  )
  if not found:
    if parts := sorted(path.parent for path in out.glob(f"*/{PLAN}")):
      raise errors.RunError(
        f"{out} is the folder of a published table; each of its parts is a"
        f" sweep: {errors.few(list(map(str, parts)))}."
      )
    raise errors.RunError(
      f"{out} has no {PLAN} and no runs: expected the directory that"
      " `normjax sweep CONFIG --out=DIR` wrote (plan.json, runs/), or a"
      " folder of runs that `normjax train` wrote (each with run.json)."
    )
  return found


def _plan_text(plan: Mapping[str, Any]) -> str:
  """The plan as JSON, a line per point: there may be thousands."""
  texts = {
    key: json.dumps(value, indent=2).replace("\n", "\n  ")
    for key, value in plan.items()
    if key != "points"
  }
  points = ",\n    ".join(map(json.dumps, plan["points"]))
  texts["points"] = f"[\n    {points}\n  ]"
  lines = (f"  {json.dumps(key)}: {text}" for key, text in texts.items())
  return "{\n" + ",\n".join(lines) + "\n}\n"


def _is_later(attempt: Attempt, status: Mapping[str, Any]) -> bool:
  """Whether the sweep's word came after the run's own."""
  said_s = status.get("updated_s")
  if said_s is None or attempt.time_unix_s is None:
    return True  # The sweep sees the end; a killed run cannot tell it.
  return attempt.time_unix_s >= said_s


def read_file(path: Path, fields: schema.Fields) -> Found:
  """A file that fits its schema, or what is wrong with it."""
  try:
    value = files.read_json(path)
  except errors.RunError as error:
    return Found(None, str(error))
  except OSError as error:
    return Found(None, f"{path} cannot be read: {error.strerror}", True)
  if value is None:
    return Found(None)
  if problem := schema.version_problem(value):
    return Found(None, f"{path} {problem}", schema.is_newer(value))
  problem = schema.problem(value, fields)
  return Found(None, f"{path} {problem}") if problem else Found(value)
