"""Runs a sweep from its config file: plan, launch, plan again."""

import contextlib
import dataclasses
import errno
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import rich.console

from normjax import configure, errors
from normjax.configure import COMPONENTS, ConfigDict
from normjax.record import files
from normjax.sweep import launch, ledger, lock, pool, progress, spec
from normjax.sweep import plan as plan_lib
from normjax.sweep.plan import Plan
from normjax.sweep.spec import Sweep

INTERRUPTED = 130
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)


@dataclasses.dataclass(frozen=True)
class Summary:
  """How a sweep ended.

  Attributes:
    out: its directory.
    plan: the last.
    num_done: points with a result that did not diverge.
    num_diverged: points that diverged.
    num_ran: of these, how many this call ran.
    failed: message by run id, of the points that failed for good.
    interrupted: a signal ended it; the same call goes on.
    wall_s: of this call.
  """

  out: Path
  plan: Plan
  num_done: int
  num_diverged: int
  num_ran: int
  failed: Mapping[str, str]
  interrupted: bool
  wall_s: float

  @property
  def exit_code(self) -> int:
    """0: every point has a result; 1: some failed; 130: interrupted."""
    return INTERRUPTED if self.interrupted else int(bool(self.failed))

  def text(self) -> str:
    """One paragraph for people."""
    over = self.num_done + self.num_diverged
    parts = [
      f"{over} of {self.plan.num_points} points over"
      f" ({self.num_diverged} diverged), {self.num_ran} of them now, in"
      f" {progress.seconds(self.wall_s)}: {self.out}"
    ]
    points = {point.run_id: point for point in self.plan.points}
    for run_id, message in self.failed.items():
      name = progress.describe(points[run_id]) if run_id in points else run_id
      parts.append(f"failed: {name} ({run_id}): {message}")
    edges = [method.label for method in self.plan.methods if method.on_edge]
    if edges:
      parts.append(f"best value on the edge of its grid: {', '.join(edges)}")
    if self.interrupted:
      parts.append("interrupted; the same command goes on from here")
    elif self.failed:
      parts.append("the same command tries the failed points again")
    return "\n".join(parts)


def run_sweep(
  config_path: str | Path,
  out: str | Path,
  *,
  overrides: Mapping[str, Any] | None = None,
  workers: int | None = None,
  retries: int = 1,
  dry_run: bool = False,
  runner: str = "normjax.train:run",
  program_key: plan_lib.ProgramKey | None = None,
  estimate: Any = None,
  console: rich.console.Console | None = None,
  grace_s: float = launch.GRACE_S,
) -> Summary:
  """Runs, or resumes, the sweep of a config file.

  Points with a result are skipped, partial ones resumed, failed ones tried
  again; a point that fails does not stop the others. A finished sweep starts
  no worker and imports no jax.

  Args:
    config_path: `file.py` or `file.py:arg`, with `get_config` and `sweep`.
    out: directory; made where missing.
    overrides: of the config, dotted path to value, for every method.
    workers: processes at once; default: as many as cores, one where there
      is an accelerator.
    retries: how often a point that failed is tried again.
    dry_run: print what would run; writes nothing.
    runner: "module:function", called in a worker as
      `function(config, directory)`; leaves `result.json`.
    program_key: `normjax.build.program_key` unless given.
    estimate: `normjax.train.estimate` unless given; for the dry run.
    console: standard output unless given.
    grace_s: for workers to write a last checkpoint when interrupted.

  Raises:
    UserError: bad input, before anything has run.
    RunError: `out` holds another sweep, or is in use, or is full.
  """
  started_s = time.monotonic()
  out = Path(out)
  config, sweep = load(config_path, overrides or {})
  console = console or rich.console.Console()
  if retries < 0 or (workers is not None and workers < 1):
    raise errors.UserError(
      f"needs workers >= 1 and retries >= 0, got {workers} and {retries}."
    )
  if out.exists() and not out.is_dir():
    raise errors.RunError(f"{out} is a file; --out is a directory.")
  identity = plan_lib.sweep_id(sweep, config)
  file = str(config_path)

  def replan(failed: Mapping[str, str]) -> tuple[Plan, dict, list[str]]:
    return _replan(sweep, config, out, failed, program_key)

  _check_same(out, identity, file)
  if dry_run:
    from normjax.sweep import dry_run as dry_run_lib

    plan, entries, _ = replan({})
    count = _num_workers(workers, plan)
    dry_run_lib.show(plan, entries, count, console, estimate)
    return _summary(out, plan, entries, {}, False, 0, started_s)

  with contextlib.ExitStack() as stack:
    stack.enter_context(_disk_errors(out))
    out.mkdir(parents=True, exist_ok=True)
    descriptor = stack.enter_context(lock.held(out))
    note = _check_same(out, identity, file)  # again: nobody else writes now
    plan, entries, notes = replan({})
    count = _num_workers(workers, plan)
    attempts = stack.enter_context(ledger.attempts_file(out))
    show = stack.enter_context(progress.Progress(out, console, count))
    for text in dict.fromkeys([note, *notes]):
      if text:
        show.say(f"note: {text}")
    stopping = stack.enter_context(launch.stop_signals())
    launcher = launch.Launcher(
      out=out,
      runner=runner,
      num_workers=count,
      cores=_core_groups(count),
      retries=retries,
      lock=descriptor,
      attempts=attempts,
      stopping=stopping,
      report=show.report,
      grace_s=grace_s,
    )
    stack.callback(launcher.close)
    num_before = _num_over(entries)
    try:
      while True:
        _write_plan(out, plan, file)
        todo = [
          point
          for point in plan.points
          if entries[point.run_id].result is None
          and point.run_id not in launcher.failed
        ]
        if not todo or stopping():
          break
        show.begin(plan, _num_over(entries))
        # The partial first: they are what an interruption may cost most.
        todo.sort(key=lambda p: entries[p.run_id].state != "partial")
        launcher.run(todo)
        plan, entries, _ = replan(launcher.failed)
    except KeyboardInterrupt:  # the second signal
      launcher.grace_s = 0.0
      plan, entries, _ = replan(launcher.failed)
    if stopping() and launcher.running():
      show.say(
        f"stopping: up to {grace_s:g} s for last checkpoints; a second signal"
        " ends the workers at once"
      )
    with contextlib.suppress(KeyboardInterrupt):  # the workers are killed
      launcher.close()
    interrupted = stopping()
    ran = _num_over(entries) - num_before
    return _summary(
      out, plan, entries, launcher.failed, interrupted, ran, started_s
    )


def load(
  config_path: str | Path, overrides: Mapping[str, Any]
) -> tuple[ConfigDict, Sweep]:
  """The base config with overrides, and the sweep.

  Overrides of a component's options become part of every method: a method
  that changes the component's name brings its defaults, which must not hide
  what was asked for.

  Raises:
    ConfigError: the file or an override does not fit.
    UserError: an override that the sweep sets itself.
  """
  config = configure.load(config_path)
  sweep = spec.load(str(config_path), config)
  swept = {key for method in sweep.methods for key in method} | {"seed"}
  for key in overrides:
    if key in swept:
      raise errors.UserError(
        f"override of {key!r} has no effect: the sweep sets it."
      )
  config = configure.override(config, overrides)
  common = {
    key: value
    for key, value in overrides.items()
    if key.partition(".")[0] in COMPONENTS
  }
  methods = [{**common, **method} for method in sweep.methods]
  return config, dataclasses.replace(sweep, methods=methods)


def _replan(
  sweep: Sweep,
  config: ConfigDict,
  out: Path,
  failed: Mapping[str, str],
  program_key: plan_lib.ProgramKey | None,
) -> tuple[Plan, dict[str, ledger.Entry], list[str]]:
  """The plan that the files now give, and the entries of its points."""
  old, _ = ledger.read_plan(out)
  programs = {p["run_id"]: p["program"] for p in (old or {}).get("points", [])}
  results = {run_id: {"state": plan_lib.FAILED} for run_id in failed}
  plan = plan_lib.plan(
    sweep,
    config,
    results | ledger.read_results(out),
    program_key=program_key,
    programs=programs,
  )
  entries, notes = ledger.read(out, [point.run_id for point in plan.points])
  return plan, entries, notes


def _check_same(out: Path, identity: str, file: str) -> str:
  """Refuses another sweep's directory; a note where its plan is not whole."""
  plan, note = ledger.read_plan(out)
  if plan is not None:
    ledger.check_same(out, plan, identity, file)
  return note


def _write_plan(out: Path, plan: Plan, file: str) -> None:
  """Writes `plan.json` where it says something new."""
  value = json.loads(json.dumps(plan_lib.to_json(plan, file)))
  if ledger.read_plan(out)[0] != value:
    files.write_json(out / ledger.PLAN, value)


def _num_over(entries: Mapping[str, ledger.Entry]) -> int:
  return sum(entry.result is not None for entry in entries.values())


def _num_workers(asked: int | None, plan: Plan) -> int:
  """As asked, but never more than a stage has points."""
  if asked is None:
    accelerated = pool.has_accelerator()
    asked = 1 if accelerated else len(pool.usable_cores())
  stage = max(len(plan.points), plan.num_points - len(plan.points))
  return min(asked, stage)


def _core_groups(num_workers: int) -> list[list[int]] | None:
  """Cores of each worker; none are pinned on a machine with an accelerator."""
  if pool.has_accelerator() or not hasattr(os, "sched_setaffinity"):
    return None
  return pool.core_groups(pool.usable_cores(), num_workers)


@contextlib.contextmanager
def _disk_errors(out: Path) -> Iterator[None]:
  """Says what a full or read-only disk means for the sweep."""
  try:
    yield
  except OSError as error:
    if error.errno not in DISK_ERRORS:
      raise
    raise errors.RunError(
      f"cannot write to {out}: {error.strerror}. What is done is kept; the"
      " same command goes on from there."
    ) from error


def _summary(
  out: Path,
  plan: Plan,
  entries: Mapping[str, ledger.Entry],
  failed: Mapping[str, str],
  interrupted: bool,
  num_ran: int,
  started_s: float,
) -> Summary:
  states = [entry.state for entry in entries.values()]
  return Summary(
    out=out,
    plan=plan,
    num_done=states.count("done"),
    num_diverged=states.count("diverged"),
    num_ran=num_ran,
    failed=dict(failed),
    interrupted=interrupted,
    wall_s=time.monotonic() - started_s,
  )
