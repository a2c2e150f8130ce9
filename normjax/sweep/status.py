"""Where the runs of a directory are, as another shell may ask.

Only reads, and only by `record.directory`: of a sweep or a run that is under
way too, and of one that was killed. Of a run that is over nothing is read
twice.
"""

import collections
import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from normjax import errors, escape
from normjax.record import comparison, holders
from normjax.record.directory import (
  PLAN,
  RunDirectory,
  RunRecord,
  RunState,
  SweepDirectory,
  find_runs,
)
from normjax.record.durations import seconds
from normjax.record.heartbeat import Launcher
from normjax.sweep import schedule
from normjax.sweep.ledger import Ledger
from normjax.sweep.plan import Point
from normjax.sweep.progress import describe, number

NOTHING = "-"
# A run that trains writes its status far more often.
_SILENT_S = 120.0
# The order in which states are listed: what needs a person's eyes first.
_ORDER = (
  RunState.RUNNING,
  RunState.FAILED,
  RunState.INTERRUPTED,
  RunState.DIVERGED,
  RunState.DONE,
  RunState.PENDING,
)


@dataclasses.dataclass(frozen=True)
class Line:
  """One run, and what is told of it.

  Attributes:
    record: what it has left.
    name: in a few words.
    value: of the metric, where the run is done.
    eta_s: until its end, where it runs and can tell.
    silent_s: since it last told where it is, where it runs.
    launcher: whose it is, "host:pid", where several may share the sweep.
  """

  record: RunRecord
  name: str
  value: float | None = None
  eta_s: float | None = None
  silent_s: float | None = None
  launcher: str = ""

  def cells(self) -> tuple[str, ...]:
    """One text per column of `Status.rows`."""
    record = self.record
    result, status = record.result or {}, record.status
    step = result.get("steps", status.get("step"))
    if record.state is RunState.DIVERGED:
      step = result.get("diverged_at_step") or step
    num_steps = status.get("num_steps")
    of = f"/{num_steps}" if num_steps is not None else ""
    loss = result.get("metrics", {}).get("train/loss", status.get("loss"))
    told = [self.name] if self.name else []
    if self.silent_s is not None and self.silent_s > _SILENT_S:
      told.append(f"silent for {seconds(self.silent_s)}")
    if record.message and not record.state.over:
      told.append(record.message.strip().splitlines()[-1])
    return (
      str(record.state),
      NOTHING if step is None else f"{step}{of}",
      number(loss),
      number(self.value),
      NOTHING if self.eta_s is None else seconds(self.eta_s),
      str(record.failures or NOTHING),
      escape.plain(self.launcher or NOTHING),
      record.run_id,
      escape.plain(": ".join(told)),
    )


@dataclasses.dataclass(frozen=True)
class Status:
  """What a directory holds now.

  Attributes:
    lines: one per run that is known.
    num_points: also those that tuning has yet to decide.
    metric: whose values are told.
    eta_s: until the end of all, where they run and can tell.
    abandoned: no process works here now, as far as is known.
    problems: what is wrong with files.
  """

  lines: Sequence[Line]
  num_points: int
  metric: str
  eta_s: float | None = None
  abandoned: bool = False
  problems: tuple[str, ...] = ()

  @property
  def over(self) -> bool:
    """Whether every run has a result."""
    num_over = sum(line.record.state.over for line in self.lines)
    return num_over == self.num_points

  def summary(self) -> str:
    """One line: how many runs are in which state, and when all are over."""
    count = collections.Counter(line.record.state for line in self.lines)
    said = [f"{count[state]} {state}" for state in _ORDER if count[state]]
    later = self.num_points - len(self.lines)
    if later:
      said.append(f"{later} follow the tuning")
    plural = "s" * (self.num_points != 1)
    text = f"{self.num_points} run{plural}: {', '.join(said)}"
    if self.over:
      return f"{text}; all are over"
    if self.eta_s is not None:
      return f"{text}; ETA {seconds(self.eta_s)}"
    if self.abandoned:
      return f"{text}; no process works here now"
    return text

  def rows(self, most: int | None = None) -> Iterator[str]:
    """A header and one text per run, in columns.

    Args:
      most: runs; those that need a person's eyes come first. None: all, in
        the order of the plan.
    """
    lines = list(self.lines)
    if most is not None and len(lines) > most:
      lines.sort(key=lambda line: _ORDER.index(line.record.state))
      lines = lines[:most]
    header = (
      "state", "step", "loss", self.metric, "ETA", "failed", "launcher", "run",
      "",
    )  # fmt: skip
    table = [header, *(line.cells() for line in lines)]
    if not any(line.launcher for line in lines):
      at = header.index("launcher")
      table = [cells[:at] + cells[at + 1 :] for cells in table]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for cells in table:
      padded = (f"{c:{w}}" for c, w in zip(cells, widths, strict=True))
      yield "  ".join(padded).rstrip()
    if more := errors.and_more(len(self.lines) - len(lines)):
      yield f"… {more}"


class Watch:
  """Reads a directory again and again."""

  def __init__(self, out: Path):
    """Sees what the directory is.

    Raises:
      RunError: it is neither a sweep's, nor has it runs.
    """
    self._out = out
    self._is_sweep = (out / PLAN).is_file()
    if not self._is_sweep:
      find_runs(out)
    self._ledger: Ledger | None = None
    self._observer = holders.observe(out)
    self._said: dict[Path, Mapping[str, Any]] = {}  # Of run.json, by folder.

  def read(self) -> Status:
    """Where the runs are now.

    Raises:
      RunError: the plan of the sweep cannot be read.
    """
    return self._sweep() if self._is_sweep else self._runs()

  def _runs(self) -> Status:
    paths = find_runs(self._out)
    # As in their report: runs may say by what they are compared.
    said = filter(None, map(self._record, paths))
    metric = comparison.measure(said).metric
    lines = []
    for path in paths:
      record = RunDirectory.at(path).read()
      name = "" if path == self._out else str(path.relative_to(self._out))
      lines.append(_line(record, name, metric))
    etas_s = [line.eta_s for line in lines if line.eta_s is not None]
    return Status(
      lines,
      len(lines),
      metric,
      max(etas_s, default=None),
      not any(line.record.state is RunState.RUNNING for line in lines),
      tuple(text for line in lines for text in line.record.problems),
    )

  def _record(self, path: Path) -> Mapping[str, Any]:
    """What run.json says of a run, read once."""
    if not self._said.get(path):
      self._said[path] = RunDirectory.at(path).read_run().value or {}
    return self._said[path]

  def _sweep(self) -> Status:
    directory = SweepDirectory(self._out)
    plan, problem, _ = directory.read_plan()
    if plan is None:
      raise errors.RunError(f"{problem}. `normjax sweep` makes it anew.")
    if self._ledger is None:
      self._ledger = Ledger(directory, plan["metric"])
    self._ledger.refresh()
    points = [_point(each, plan["tuned"]) for each in plan["points"]]
    records = {p.run_id: self._ledger.record(p.run_id) for p in points}
    launchers = holders.by_run(self._out, self._observer)
    lines = [
      _line(
        records[p.run_id],
        describe(p),
        plan["metric"],
        launchers.get(p.run_id),
      )
      for p in points
    ]
    # Plans of earlier versions do not say.
    num_points = plan.get("num_points", len(points))
    return Status(
      lines,
      num_points,
      plan["metric"],
      _left_s(points, records, num_points - len(points)),
      holders.is_abandoned(self._out, self._observer),
      tuple(text for r in records.values() for text in r.problems),
    )


def _point(said: Mapping[str, Any], keys: Sequence[str]) -> Point:
  """A point of `plan.json`, with the values of the keys that are tuned."""
  names = ("run_id", "stage", "method", "overrides", "seed", "program")
  tuned = {key: said["overrides"][key] for key in keys if key in
           said["overrides"]}  # fmt: skip
  return Point(
    **{name: said[name] for name in names},
    tuned=tuned,
    for_seed=said.get("for_seed"),  # Earlier plans have none.
  )


def _line(
  record: RunRecord,
  name: str,
  metric: str,
  launcher: Launcher | None = None,
) -> Line:
  value = eta_s = silent_s = None
  if record.state is RunState.DONE:
    value = (record.result or {})["metrics"].get(metric)
  if record.state is RunState.RUNNING:
    told_s = record.status.get("updated_s")
    silent_s = None if told_s is None else max(0.0, time.time() - told_s)
    eta_s = record.status.get("eta_s")
    if eta_s is not None and silent_s is not None:
      eta_s = max(0.0, eta_s - silent_s)
  where = f"{launcher.host}:{launcher.pid}" if launcher else ""
  return Line(record, name, value, eta_s, silent_s, where)


def _left_s(
  points: Sequence[Point], records: Mapping[str, RunRecord], num_unknown: int
) -> float | None:
  """Seconds until the end, from what is over; None where nothing runs."""
  point_s: dict[str, list[float]] = {}
  compile_s: dict[str, list[float]] = {}
  pending, running = [], []
  for point in points:
    record = records[point.run_id]
    if record.state.over:
      result = record.result or {}
      compiled_s = result.get("compile_s") or 0.0
      if result.get("wall_s") is not None:
        own_s = max(0.0, result["wall_s"] - compiled_s)
        point_s.setdefault(point.program, []).append(own_s)
      if compiled_s:
        compile_s.setdefault(point.program, []).append(compiled_s)
    elif record.state is RunState.RUNNING:
      running.append(point)
    else:
      pending.append(point)
  timings = schedule.Timings(point_s, compile_s)
  if not running:
    return None
  return schedule.expect_left_s(
    pending,
    num_unknown,
    [_running(p, records[p.run_id].status, timings) for p in running],
    len(running),
    timings,
  )


def _running(
  point: Point, status: Mapping[str, Any], timings: schedule.Timings
) -> schedule.Running:
  """How far a run is, by its steps."""
  share = (status.get("step") or 0) / (status.get("num_steps") or 1)
  whole_s = timings.expect_point_s(point.program) or 0.0
  return schedule.Running(point.program, share * whole_s, compiles=False)
