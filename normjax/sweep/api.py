"""Runs a sweep from its config file: plan, launch, plan again."""

import contextlib
import dataclasses
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import rich.console

from normjax import config_files, configure, errors, escape, faults
from normjax.configure import COMPONENTS, ConfigDict
from normjax.record import failures, lock
from normjax.record.directory import RunState, SweepDirectory
from normjax.record.durations import seconds
from normjax.sweep import executor as executor_lib
from normjax.sweep import launch, own_data, preflight, progress, spec
from normjax.sweep import tune as tune_lib
from normjax.sweep.plan import Estimate, Plan, ProgramKey
from normjax.sweep.planner import Planner, State
from normjax.sweep.spec import Sweep

INTERRUPTED = 130
RUNNER = "normjax.train:run"


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
    notes: in what the folder's earlier runs differ.
    chosen: of a part of a sweep, how many of its points are over, and how many
      it has; None where all were to be run.
  """

  out: Path
  plan: Plan
  num_done: int
  num_diverged: int
  num_ran: int
  failed: Mapping[str, str]
  interrupted: bool
  wall_s: float
  notes: tuple[str, ...] = ()
  chosen: tuple[int, int] | None = None

  @property
  def exit_code(self) -> int:
    """0: every point has a result; 1: some failed; 130: interrupted."""
    return INTERRUPTED if self.interrupted else int(bool(self.failed))

  def text(self, *, with_failures: bool = True) -> str:
    """One paragraph for people.

    Args:
      with_failures: whether to say what failed, where nobody else does.
    """
    over = self.num_done + self.num_diverged
    parts = [
      f"{over} of {self.plan.num_points} points over"
      f" ({self.num_diverged} diverged), {self.num_ran} of them now, in"
      f" {seconds(self.wall_s)}: {self.out}"
    ]
    if with_failures:
      parts += [f"failed: {line}" for line in self._failures()]
    parts += [f"note: {text}" for text in self.notes]
    edges = list(filter(None, (m.edges() for m in self.plan.methods)))
    if edges:
      parts.append(f"best value on the edge of its grid: {', '.join(edges)}")
    if self.chosen is not None:
      over, count = self.chosen
      parts.append(
        f"of the {count} points that were chosen {over} are over; without"
        " --methods and --seeds the same command runs the rest"
      )
    if self.interrupted:
      parts.append("interrupted; the same command goes on from here")
    elif self.failed:
      count = len(self.failed)
      parts.append(
        f"{count} point{'s' * (count > 1)} failed; the same command tries"
        f" {'them' if count > 1 else 'it'} again"
      )
    return "\n".join(parts)

  def _failures(self) -> list[str]:
    """A line per fault."""
    points = {point.run_id: point for point in self.plan.points}
    return failures.told(
      failures.Failure(
        f"{progress.describe(points[run_id])} ({run_id})"
        if run_id in points
        else run_id,
        message,
        run_id,
      )
      for run_id, message in self.failed.items()
    )


def run_sweep(
  config_path: str | Path,
  out: str | Path,
  *,
  overrides: Mapping[str, Any] | None = None,
  workers: int | None = None,
  retries: int = 1,
  dry_run: bool = False,
  accept_code_change: bool = False,
  compiles: bool = True,
  runner: str = RUNNER,
  program_key: ProgramKey | None = None,
  estimate: Estimate | None = None,
  console: rich.console.Console | None = None,
  grace_s: float = launch.GRACE_S,
  executor: str | type[executor_lib.Executor] = "local",
  methods: str | None = None,
  seeds: Iterable[int] | None = None,
) -> Summary:
  """Runs, or resumes, the sweep of a config file.

  Points with a result are skipped, interrupted ones resumed, failed ones tried
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
    accept_code_change: keep the results of runs whose own components have
      changed since, and go on with the others.
    compiles: of a dry run: compile each program, for memory and time.
    runner: "module:function", called in a worker as
      `function(config, directory)`; leaves `result.json`.
    program_key: `normjax.build.program_key` unless given.
    estimate: `normjax.train.estimate` unless given; for the dry run.
    console: standard output unless given.
    grace_s: for workers to write a last checkpoint when interrupted.
    executor: where runs happen: a name of `executor.EXECUTORS`, or a class
      of one's own.
    methods: run only those whose label this regular expression matches.
    seeds: run only these of the final seeds. What was not chosen is left for
      another call.

  Raises:
    UserError: bad input, before anything has run; an unknown executor is
      one.
    RunError: `out` holds another sweep, or runs of other code of the user's
      own, or is in use, or is full.
  """
  started_s = time.monotonic()
  out = Path(out)
  console = console or rich.console.Console()
  if retries < 0 or (workers is not None and workers < 1):
    raise errors.UserError(
      f"needs workers >= 1 and retries >= 0, got {workers} and {retries}."
    )
  place = executor_lib.resolve(executor)
  config, sweep = load(config_path, overrides or {})
  planner = Planner(
    sweep,
    config,
    str(config_path),
    out,
    program_key,
    methods,
    seeds,
    overrides,
  )
  with _disk_errors(out, resumes=not dry_run):
    planner.claim()
    state = planner.plan({})  # bad input ends here: nothing is written
    if (code := planner.changed_code(state.plan)) and not accept_code_change:
      raise errors.RunError(
        f"{out}: {code}. Give another --out, or --accept_code_change to keep"
        " what there is."
      )
    if code:
      console.print(escape.terminal(f"note: {code}"), soft_wrap=True)
    num_slots = _num_slots(workers or place.default_num_slots(), state)
    if dry_run:
      from normjax.sweep import dry_run as dry_run_lib

      for text in filter(None, [*planner.changed(state.plan), state.warning()]):
        console.print(escape.terminal(f"note: {text}"), soft_wrap=True)
      dry_run_lib.points(state, console)
    if runner == RUNNER:  # Of another one we know neither fields nor metrics.
      own_data.check(out, state.plan, state.entries)
      for note in preflight.check(
        state.plan,
        [*state.left(), *state.to_come()],
        strict=dry_run,
        shapes_suffice=dry_run,
        same_machine=place.same_machine,
      ):
        console.print(escape.terminal(f"note: {note}"), soft_wrap=True)
    if dry_run:
      if compiles:
        dry_run_lib.programs(state, num_slots, console, estimate)
      return _summary(out, state, {}, False, 0, started_s)
    faults.make_folder(out)
    with (
      lock.held(out) as descriptor,
      SweepDirectory(out).open_attempts() as attempts,
      progress.Progress(out, console, num_slots) as show,
      launch.stop_signals() as stopping,
    ):
      launcher = launch.Launcher(
        place(out=out, runner=runner, num_slots=num_slots, lock=descriptor),
        directory=SweepDirectory(out),
        num_slots=num_slots,
        retries=retries,
        attempts=attempts,
        stopping=stopping,
        watcher=show,
        grace_s=grace_s,
      )
      notes, before, state = _run_stages(planner, launcher, show)
      num_ran = state.num_over() - before.num_over()
      return _summary(
        out, state, launcher.failed, stopping(), num_ran, started_s, notes
      )


def _run_stages(
  planner: Planner, launcher: launch.Launcher, show: progress.Progress
) -> tuple[list[str], State, State]:
  """Plans and launches in turn, until nothing is left or a signal came.

  Returns:
    What has changed since the last call, and the states before and after.
  """
  note = planner.claim()  # again: from here on nobody else writes
  before = state = planner.plan({})
  changed = planner.changed(state.plan)
  said = [note, *state.notes, *changed, state.warning()]
  for text in filter(None, dict.fromkeys(said)):
    show.say(f"note: {text}")
  try:
    while not launcher.stopping():
      planner.write(state.plan)
      left = [p for p in state.left() if p.run_id not in launcher.failed]
      if not left:
        break
      show.begin(state)
      launcher.run(left)
      state = planner.plan(launcher.failed)
    if launcher.running():
      show.say(
        f"stopping: up to {launcher.grace_s:g} s for last checkpoints; a"
        " second signal ends the workers at once"
      )
    launcher.stop()
  except KeyboardInterrupt:  # the second signal
    launcher.grace_s = 0.0
  finally:
    launcher.stop()
  after = planner.plan(launcher.failed)
  return [*changed, *planner.replaced(after.plan)], before, after


def load(
  config_path: str | Path, overrides: Mapping[str, Any]
) -> tuple[ConfigDict, Sweep]:
  """The base config with overrides, and the sweep.

  Overrides of a component's options become part of every method: a method
  that changes the component's name brings its defaults, which must not hide
  what was asked for.

  Raises:
    ConfigError: the file or an override does not fit.
    UserError: an override, or a method's value, that the sweep overrules.
  """
  config_files.search_beside(config_path)
  config = configure.load(config_path)
  sweep = spec.load(str(config_path), config)
  swept = {key for method in sweep.methods for key in method} | {"seed"}
  swept |= sweep.ladder.keys if sweep.ladder else set()
  tune = sweep.tune
  if tune is not None and not tune.relative and not callable(tune.space):
    swept |= set(tune.space)
  for key in overrides:
    if key in swept:
      raise errors.UserError(
        f"override of {key!r} has no effect: the sweep sets it."
      )
  config = configure.override(config, overrides)
  if tune is not None:
    tune_lib.check_own_values(tune, sweep.methods, config)
  common = {
    key: value
    for key, value in overrides.items()
    if key.partition(".")[0] in COMPONENTS
  }
  methods = [{**common, **method} for method in sweep.methods]
  return config, dataclasses.replace(sweep, methods=methods)


def _num_slots(asked: int, state: State) -> int:
  """As asked, but never more than a stage has points."""
  num_known = len(state.chosen())
  stage = max(num_known, state.num_chosen() - num_known)
  return min(asked, stage)


@contextlib.contextmanager
def _disk_errors(out: Path, *, resumes: bool) -> Iterator[None]:
  """Says what a full or read-only disk means for the sweep."""
  try:
    yield
  except OSError as error:
    if faults.disk(error) is None:
      raise
    name = error.filename or out
    if not resumes:
      raise errors.RunError(f"cannot use {name}: {error.strerror}.") from error
    raise errors.RunError(
      f"cannot write to {name}: {error.strerror}. What is done is kept; the"
      " same command goes on from there."
    ) from error


def _summary(
  out: Path,
  state: State,
  failed: Mapping[str, str],
  interrupted: bool,
  num_ran: int,
  started_s: float,
  notes: Sequence[str] = (),
) -> Summary:
  states = [entry.state for entry in state.entries.values()]
  # A run may have left its result before what ran it failed.
  over = {i for i, entry in state.entries.items() if entry.state.over}
  return Summary(
    out=out,
    plan=state.plan,
    num_done=states.count(RunState.DONE),
    num_diverged=states.count(RunState.DIVERGED),
    num_ran=num_ran,
    failed={i: said for i, said in failed.items() if i not in over},
    interrupted=interrupted,
    wall_s=time.monotonic() - started_s,
    notes=tuple(notes),
    chosen=None
    if state.selection.whole
    else (state.num_over(), state.num_chosen()),
  )
