"""What a report is made from: a sweep, or a folder of runs, as it lies there.

A file that cannot be used costs its own run, never the report: it becomes a
line of `problems`. What the files mean is for `record.directory` to say.
"""

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from normjax import configure, errors
from normjax.record import comparison, files, target
from normjax.record import costs as costs_lib
from normjax.record import rungs as rungs_lib
from normjax.record.comparison import (
  VERDICT,
  Method,
  Search,
  Tuning,
  differing_keys,
  short_names,
)
from normjax.record.directory import (
  PLAN,
  Attempt,
  RunDirectory,
  RunState,
  SweepDirectory,
  find_runs,
)


@dataclasses.dataclass(frozen=True)
class Run:
  """One planned run and whatever it has left so far.

  Attributes:
    state: where it is.
    message: what it, or its sweep, says about its last failure.
    attempts: failed attempts.
    record: run.json, or {}.
    status: status.json of a run that is not over, or {}.
    result: result.json, or {}.
    rows: rows of metrics.jsonl.
    directory: its files; single runs may lie in folders of any name.
    for_seed: of a trial, the final seed that it chooses for; None: for all.
  """

  run_id: str
  stage: str
  method: str
  overrides: Mapping[str, Any]
  seed: int
  state: RunState = RunState.PENDING
  message: str = ""
  attempts: int = 0
  record: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  status: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  result: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  rows: tuple[Mapping[str, Any], ...] = ()
  directory: RunDirectory | None = None
  for_seed: int | None = None

  def metric(self, name: str) -> float | None:
    """The final value of a run that is done; None for any other."""
    if self.state is not RunState.DONE:
      return None
    return self.result["metrics"].get(name)

  @property
  def split(self) -> str:
    """The part of the data that its evaluations measured."""
    asked = self.overrides.get("evaluate.split", "validation")
    return self.result.get("split", asked)  # Earlier results do not say.

  @property
  def fold(self) -> int | None:
    """The part that validates; None where nothing is cross-validated."""
    return (self.record.get("fold") or {}).get("number")

  @property
  def num_examples(self) -> int | None:
    """How many its evaluations counted; None where nothing says it."""
    return self.result.get(files.EVAL_EXAMPLES)

  @property
  def gradient_zero_since(self) -> int | None:
    """The step from which to the end the gradient was 0 and the loss not."""
    return self.result.get("gradient_zero_since_step")

  def curve(self, kind: str, name: str) -> dict[int, float]:
    """Step to value; the last row wins where a step was logged twice."""
    return {
      row["step"]: row[name]
      for row in self.rows
      if row["kind"] == kind and row.get(name) is not None
    }


@dataclasses.dataclass(frozen=True)
class SweepRecord:
  """A comparison: its plan, its runs, and what could not be read.

  Attributes:
    num_seeds: of the final runs, per method; 0 where no plan says it.
    divergence: what a diverged final run is, see `Sweep.divergence`.
    overrides: of the base config, given on the command line; plans of earlier
      versions do not say them.
    costs: what the methods take at a real size, if the sweep names a file.
  """

  directory: Path
  sweep_id: str
  config_file: str
  config: Mapping[str, Any]
  metric: str
  mode: str
  baseline: str | None
  tuned_keys: tuple[str, ...]
  trials_per_method: int
  methods: tuple[Method, ...]
  runs: tuple[Run, ...]
  problems: tuple[str, ...] = ()
  other_metrics: tuple[str, ...] = ()
  tunings: tuple[Tuning, ...] = ()
  search: Search | None = None
  num_seeds: int = 0
  divergence: str = VERDICT
  rungs: rungs_lib.Rungs | None = None
  overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  costs: costs_lib.Costs | None = None

  def baseline_of(self, label: str) -> str | None:
    """The method that a method is compared with: of a ladder, at its rung."""
    if self.rungs is None or self.baseline not in self.rungs.rows:
      return self.baseline
    return self.rungs.beside(label, self.baseline)

  @property
  def baseline_name(self) -> str | None:
    """What the methods are compared with, in words."""
    if self.rungs is None or self.baseline not in self.rungs.rows:
      return self.baseline
    method = self.rungs.rows[self.baseline].method
    return f"{method} at the same size and budget"

  def finals(self, label: str) -> list[Run]:
    """Runs of a method that the table is made from."""
    return self._by_stage.get(("final", label), [])

  def trials(self, label: str) -> list[Run]:
    """Tuning runs of a method: of a ladder, at the rung that is tuned."""
    if self.rungs is not None:
      label = self.rungs.tuned_row(label)
    return self._by_stage.get(("tune", label), [])

  @functools.cached_property
  def _by_stage(self) -> dict[tuple[str, str], list[Run]]:
    found: dict[tuple[str, str], list[Run]] = {}
    for run in self.runs:
      found.setdefault((run.stage, run.method), []).append(run)
    return found

  @property
  def failed(self) -> list[Run]:
    """Runs whose last attempt failed."""
    return [run for run in self.runs if run.state is RunState.FAILED]


def load(out: Path) -> SweepRecord:
  """Reads a sweep directory; without a plan, a folder of single runs.

  Raises:
    RunError: `out` holds neither, or its plan is damaged.
  """
  out = Path(out)
  if (out / PLAN).is_file():
    return _load_sweep(SweepDirectory(out))
  return _load_folder(out, find_runs(out))


def _load_sweep(directory: SweepDirectory) -> SweepRecord:
  plan, problem, _ = directory.read_plan()
  if plan is None:
    raise errors.RunError(f"{problem}. `normjax sweep` makes it anew.")
  attempts, problems = directory.read_attempts()
  # Plans of earlier versions have no others.
  metrics = (plan["metric"], *plan.get("other_metrics", ()))
  runs = []
  for point in plan["points"]:
    run_id = point["run_id"]
    fields = ("run_id", "stage", "method", "overrides", "seed")
    run = Run(
      **{field: point[field] for field in fields},
      for_seed=point.get("for_seed"),  # Earlier plans have none.
    )
    run, said = _fill(
      run, directory.run(run_id), attempts.get(run_id, ()), metrics
    )
    runs.append(run)
    problems += said
  return SweepRecord(
    directory=directory.out,
    sweep_id=plan["sweep_id"],
    config_file=plan["config_file"],
    config=plan["config"],
    metric=plan["metric"],
    mode=plan["mode"],
    baseline=plan["baseline"],
    tuned_keys=tuple(plan["tuned"]),
    trials_per_method=plan["trials_per_method"],
    methods=tuple(map(comparison.method, plan["methods"])),
    runs=tuple(runs),
    problems=_relative(problems, directory.out),
    other_metrics=metrics[1:],
    tunings=comparison.tunings(plan),
    search=comparison.search(plan),
    rungs=rungs_lib.from_json(plan["ladder"]) if plan.get("ladder") else None,
    num_seeds=plan.get("num_seeds", 0),
    divergence=plan.get("divergence", VERDICT),
    overrides=plan.get("overrides", {}),
    costs=costs_lib.from_json(plan["costs"]) if plan.get("costs") else None,
  )


def _fill(
  run: Run,
  directory: RunDirectory,
  attempts: Sequence[Attempt] = (),
  metrics: Sequence[str] = (),
) -> tuple[Run, list[str]]:
  """The run with what its directory holds, and what is wrong there."""
  left = directory.read(attempts)
  record, problem, _ = directory.read_run()
  rows, dropped = directory.read_rows()
  run = dataclasses.replace(
    run,
    state=left.state,
    message=left.message,
    attempts=left.failures,
    record=record or {},
    status=left.status,
    result=target.add(left.result, metrics, lambda: rows)
    if left.result
    else {},
    rows=tuple(rows),
    directory=directory,
  )
  unread = [*left.problems, *filter(None, [problem])]
  return run, [
    *(f"{text}; counted as missing" for text in unread),
    *dropped,
    *(f"{directory.path}/{text}" for text in _lost_rows(run)),
  ]


def _lost_rows(run: Run) -> list[str]:
  """What is wrong with the rows of a run that is over, if anything."""
  last = {
    RunState.DONE: run.result.get("steps"),
    RunState.DIVERGED: run.result.get("diverged_at_step"),
  }.get(run.state)
  return files.lost_rows(run.rows, last or 0, run.record.get("config", {}))


def _relative(problems: Iterable[str], out: Path) -> tuple[str, ...]:
  return tuple(text.replace(f"{out}/", "") for text in problems)


def _load_folder(out: Path, directories: list[Path]) -> SweepRecord:
  """Single runs as a comparison: those that differ in the seed are one row."""
  problems: list[str] = []
  loose = []
  for path in directories:
    directory = RunDirectory.at(path)
    run, said = _fill(Run(directory.run_id, "final", "", {}, 0), directory)
    problems += said
    if run.record:
      loose.append(run)
  problems = list(_relative(problems, out))
  if not loose:
    raise errors.RunError(f"{out}: no run.json could be read: {problems[0]}")
  measure = comparison.measure(run.record for run in loose)
  flat = [dict(configure.leaves(run.record["config"])) for run in loose]
  seeds = [leaves.pop("seed", 0) for leaves in flat]
  differing = differing_keys(flat)
  overrides = [
    {key: leaves[key] for key in differing if key in leaves} for leaves in flat
  ]
  names = short_names(differing)
  labels = [
    ", ".join(f"{names[key]}={value}" for key, value in o.items()) or "runs"
    for o in overrides
  ]
  methods = {
    label: Method(label, o) for label, o in zip(labels, overrides, strict=True)
  }
  return SweepRecord(
    directory=out,
    sweep_id="",
    config_file="",
    config=loose[0].record["config"],
    metric=measure.metric,
    mode=measure.mode,
    baseline=None,
    tuned_keys=(),
    trials_per_method=0,
    methods=tuple(methods.values()),
    runs=tuple(
      dataclasses.replace(run, method=label, overrides=o, seed=seed)
      for run, label, o, seed in zip(
        loose, labels, overrides, seeds, strict=True
      )
    ),
    problems=tuple(problems),
    other_metrics=measure.others,
  )
