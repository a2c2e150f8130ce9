"""Runs a sweep from its config file: plan, launch, plan again."""

import contextlib
import dataclasses
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import rich.console

from normjax import errors, escape, faults, stopping
from normjax.record import lease
from normjax.record.directory import RunState, SweepDirectory
from normjax.sweep import executor as executor_lib
from normjax.sweep import (
  launch,
  loading,
  local,
  own_data,
  preflight,
  progress,
  select,
)
from normjax.sweep import population as population_lib
from normjax.sweep.plan import Estimate, ProgramKey
from normjax.sweep.planner import Planner, State
from normjax.sweep.summary import Summary

RUNNER = population_lib.ALONE


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
  population: str | int | None = None,
  workers_per_gpu: int | None = None,
) -> Summary:
  """Runs, or resumes, the sweep of a config file.

  Points with a result are skipped, interrupted ones resumed, failed ones tried
  again; a point that fails does not stop the others. A finished sweep starts
  no worker and imports no jax. Several calls may work at once in one `out`,
  on one machine or several: each point is run by one of them.

  Args:
    config_path: `file.py` or `file.py:arg`, with `get_config` and `sweep`.
    out: directory; made where missing.
    overrides: of the config, dotted path to value, for every method.
    workers: processes at once; default: one per GPU, else per core, and one
      where there is another accelerator.
    retries: how often a point that failed is tried again.
    dry_run: print what would run; writes nothing.
    accept_code_change: keep the results of runs whose own components have
      changed since, and go on with the others.
    compiles: of a dry run: compile each program, for memory and time.
    runner: called in a worker; leaves `result.json`. See `worker.run_list`.
    program_key: `normjax.build.program_key` unless given.
    estimate: `normjax.train.estimate` unless given; for the dry run.
    console: standard output unless given.
    grace_s: for workers to write a last checkpoint when interrupted.
    executor: where runs happen: a name of `executor.EXECUTORS`, or a class
      of one's own.
    methods: run only those whose label this regular expression matches.
    seeds: run only these of the final seeds. What was not chosen is left for
      another call.
    population: in place of the sweep's own; see `Sweep`.
    workers_per_gpu: of this machine's workers, how many share a GPU and its
      memory; one unless given.

  Raises:
    UserError: bad input, before anything has run; an unknown executor is
      one, and more workers than GPUs.
    RunError: `out` holds another sweep, or runs of other code of the user's
      own, or is full.
  """
  prepared = Prepared(
    config_path,
    out,
    overrides=overrides,
    workers=workers,
    retries=retries,
    accept_code_change=accept_code_change,
    runner=runner,
    program_key=program_key,
    console=console,
    grace_s=grace_s,
    executor=executor,
    methods=methods,
    seeds=seeds,
    population=population,
    workers_per_gpu=workers_per_gpu,
  )
  if dry_run:
    prepared.show()
    prepared.check(strict=True)
    if compiles:
      prepared.show_programs(estimate)
    return prepared.summary()
  prepared.check()
  return prepared.run()


class Prepared:
  """A sweep that is planned from what lies in its folder; nothing is written.

  Attributes:
    out: its directory.
    config: the base config.
    sweep: what it compares.
    state: the plan, and what its runs have left.
    planner: makes the plan anew.
  """

  def __init__(
    self,
    config_path: str | Path,
    out: str | Path,
    *,
    overrides: Mapping[str, Any] | None = None,
    workers: int | None = None,
    retries: int = 1,
    accept_code_change: bool = False,
    runner: str = RUNNER,
    program_key: ProgramKey | None = None,
    console: rich.console.Console | None = None,
    grace_s: float = launch.GRACE_S,
    executor: str | type[executor_lib.Executor] = "local",
    methods: select.Methods | None = None,
    seeds: Iterable[int] | None = None,
    other_metrics: Iterable[str] = (),
    population: str | int | None = None,
    workers_per_gpu: int | None = None,
  ):
    """Plans; see `run_sweep` for what it is given, and what it raises.

    `other_metrics` are asked of the runs beside those that the sweep names.
    """
    self._started_s = time.monotonic()
    self.out = Path(out)
    self._console = console or rich.console.Console()
    if retries < 0 or (workers is not None and workers < 1):
      raise errors.UserError(
        f"needs workers >= 1 and retries >= 0, got {workers} and {retries}."
      )
    self._retries, self._runner, self._grace_s = retries, runner, grace_s
    self._place = executor_lib.resolve(executor)
    self.config, self.sweep = loading.load(
      config_path, overrides or {}, other_metrics
    )
    if population is not None:
      population_lib.check("--population", population)
      self.sweep = dataclasses.replace(self.sweep, population=population)
    self.planner = Planner(
      self.sweep,
      self.config,
      str(config_path),
      self.out,
      program_key,
      methods,
      seeds,
      overrides,
    )
    with _disk_errors(self.out, resumes=False):
      self.planner.claim()
      self.state = self.planner.plan({})  # bad input ends here
      code = self.planner.changed_code(self.state.plan)
    if code and not accept_code_change:
      raise errors.RunError(
        f"{self.out}: {code}. Give another --out, or --accept_code_change to"
        " keep what there is."
      )
    if code:
      self._note(code)
    self._place = local.fitted(
      self._place,
      [p.config for p in (*self.state.left(), *self.state.to_come())],
      workers,
      workers_per_gpu,
    )
    self._num_slots = _num_slots(
      workers or self._place.default_num_slots(), self.state
    )
    if self._num_slots > 1 and local.shares_unasked(self._place):
      self._note(
        f"this machine's accelerator is no NVIDIA GPU: each of"
        f" {self._num_slots} workers sees all of it"
      )

  def check(self, *, strict: bool = False) -> None:
    """Checks what is left to run, and prints what will not go well.

    Args:
      strict: see `preflight.check`.

    Raises:
      UserError: bad input; data that is missing is a DataError.
    """
    if self._runner != RUNNER:  # Its fields and metrics are not known.
      return
    with _disk_errors(self.out, resumes=False):
      state = self.state
      own_data.check(self.out, state.plan, state.entries)
      for note in preflight.check(
        state.plan,
        [*state.left(), *state.to_come()],
        strict=strict,
        shapes_suffice=strict,
        same_machine=self._place.same_machine,
      ):
        self._note(note)

  def show(self) -> None:
    """Prints the methods and the points."""
    from normjax.sweep import dry_run

    changed = self.planner.changed(self.state.plan)
    for text in filter(None, [*changed, self.state.warning()]):
      self._note(text)
    dry_run.points(self.state, self._console)

  def show_programs(self, estimate: Estimate | None = None) -> None:
    """Compiles each program, and prints its memory and time."""
    from normjax.sweep import dry_run

    dry_run.programs(self.state, self._num_slots, self._console, estimate)

  def summary(self) -> Summary:
    """Where it is, with nothing run."""
    return _summary(self.out, self.state, {}, False, 0, self._started_s)

  def run(self) -> Summary:
    """Runs what is left."""
    with _disk_errors(self.out, resumes=True):
      faults.make_folder(self.out)
      with (
        lease.Leases(self.out) as leases,
        SweepDirectory(self.out).open_attempts() as attempts,
        progress.Progress(self.out, self._console, self._num_slots) as show,
        stopping.noted() as is_stopping,
      ):
        place = self._place(
          out=self.out,
          runner=population_lib.runner(self.sweep.population, self._runner),
          num_slots=self._num_slots,
          lock=leases.descriptor,
        )
        launcher = launch.Launcher(
          place,
          directory=SweepDirectory(self.out),
          leases=leases,
          num_slots=self._num_slots,
          retries=self._retries,
          attempts=attempts,
          stopping=is_stopping,
          watcher=show,
          grace_s=self._grace_s,
          max_lanes=population_lib.most(self.sweep.population),
        )
        notes, state = _run_stages(self.planner, launcher, show)
        return _summary(
          self.out,
          state,
          launcher.failed,
          is_stopping(),
          sum(
            state.entries[i].state.over
            for i in launcher.given & {*state.entries}
          ),
          self._started_s,
          notes,
        )

  def _note(self, text: str) -> None:
    self._console.print(escape.terminal(f"note: {text}"), soft_wrap=True)


def _run_stages(
  planner: Planner, launcher: launch.Launcher, show: progress.Progress
) -> tuple[list[str], State]:
  """Plans and launches in turn, until nothing is left or a signal came.

  Returns:
    What has changed since the last call, and the state at the end.
  """
  note = planner.claim()  # Again: another launcher may have begun since.
  state = planner.plan({})
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
  return [*changed, *planner.replaced(after.plan)], after


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
