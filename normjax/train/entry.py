"""Runs, from their configs to their results, resumable at any moment."""

import contextlib
import functools
import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from normjax import build, configure, errors
from normjax.record import owner
from normjax.record.directory import RunState
from normjax.record.recorder import Recorder
from normjax.train import check, checkpoint, data_change, loop, program
from normjax.train import compiled as compiled_lib
from normjax.train.alone import Alone
from normjax.train.lane import Lane, Observer
from normjax.train.population import chunks
from normjax.train.population import together as together_lib
from normjax.train.population.stepper import Population
from normjax.train.processes import distributed, folders
from normjax.train.request import Run, ignore
from normjax.train.throughput import profile

_LOG = logging.getLogger(__name__)


def run(
  config: configure.ConfigDict,
  directory: Path,
  observe: Observer = ignore,
  window: profile.Window | None = None,
) -> dict[str, Any]:
  """Trains one config and returns its result.

  Returns at once where `result.json` is there. Goes on from the newest whole
  checkpoint where there is one, and then gives bit for bit what a run that
  was never stopped gives.

  Args:
    config: see `Run`, like the others.
    directory: see `Run`.
    observe: see `Run`.
    window: see `Run`.

  Returns:
    What `result.json` holds. Divergence is a result: `state` is "diverged".

  Raises:
    UserError: bad input; nothing was started.
    RunError: the data is not what the run began with; or the directory is
      another run's, over or not, of which nothing is changed then.
    BusyRunError: another process trains in this directory.
    KeyboardInterrupt: a signal came; a checkpoint is there, where they are on.
  """
  return run_together([Run(config, Path(directory), observe, window)])[0]


def run_together(runs: Sequence[Run], *, most: int = 1) -> list[dict[str, Any]]:
  """Trains runs of one program side by side.

  Args:
    runs: their configs differ in scalars, seeds and what steers the loop.
    most: members of a population; see `chunks`. With 1 each run takes steps
      of its own, and gives what it gives alone, bit for bit.

  Returns:
    The results, in the order of the runs.

  Raises:
    UserError: as `run`, or the runs are of several programs.
    BusyRunError: as `run`.
    KeyboardInterrupt: as `run`, for all that were not over. Any other error
      ends all of them too.
  """
  distributed.check_joined()
  _check_directories(runs)
  _check_owners(runs)
  results = _finished(runs)
  left = [run for run in runs if run.directory not in results]
  if left:
    _check(left)
    with contextlib.ExitStack() as locks:
      folders.take(left, locks)
      # Another process may have begun others there, or ended some of these,
      # before the locks were free.
      _check_owners(left)
      results |= _finished(left)
      left = [run for run in left if run.directory not in results]
      for chunk in chunks.split(left, most):
        results |= _train(chunk)
  return [results[run.directory] for run in runs]


def _check_directories(runs: Sequence[Run]) -> None:
  """Raises UserError where two runs would write to one directory."""
  taken: set[str] = set()
  for run in runs:
    where = os.path.realpath(run.directory)
    if where in taken:
      raise errors.UserError(
        f"two runs side by side have the directory {run.directory}; each needs"
        " one of its own."
      )
    taken.add(where)


def _check_owners(runs: Sequence[Run]) -> None:
  """Raises RunError where one's directory is another run's."""

  def check() -> None:
    for run in runs:
      owner.check(run.files, run.config)

  distributed.from_first(check)


def _finished(runs: Sequence[Run]) -> dict[Path, dict[str, Any]]:
  """The results that are there, by directory."""

  def read() -> list[dict[str, Any] | None]:
    found = [run.files.read_result().value for run in runs]
    for run, result in zip(runs, found, strict=True):
      if result:
        _check_data(run)
    return found

  found = zip(runs, distributed.from_first(read), strict=True)
  return {run.directory: result for run, result in found if result}


def _check_data(run: Run) -> None:
  """Raises RunError where a run's data is no longer what it began with."""
  if changed := data_change.problem(run.config, run.files):
    raise errors.RunError(
      f"{run.directory} was trained on {changed}. Give another --out, or put"
      " the old data back."
    )


def _check(runs: Sequence[Run]) -> None:
  distributed.together(lambda: [check.check(run.config) for run in runs])
  for run in runs:
    distributed.check_same(
      "fingerprint of its data", _fingerprint(build.dataset(run.config))
    )
  resumed = distributed.from_first(lambda: _check_files(runs))
  for run, resumes in zip(runs, resumed, strict=True):
    distributed.together(
      functools.partial(program.check_start, run.config, resumes=resumes)
    )
  programs = {build.program_key(run.config) for run in runs}
  if len(programs) > 1:
    raise errors.UserError(
      f"runs side by side are of one program; {len(runs)} runs are of"
      f" {len(programs)}: they may differ in traced scalars alone."
    )


def _check_files(runs: Sequence[Run]) -> list[bool]:
  """Whether each run goes on from a checkpoint."""
  resumed = []
  for run in runs:
    run.files.check_usable()
    resumed.append(bool(checkpoint.steps(run.directory)))
    if resumed[-1]:
      _check_data(run)
  return resumed


def _fingerprint(dataset: Any) -> str:
  """Of what a data set says of itself: equal where its batches are."""
  said = json.dumps(dataset.provenance, sort_keys=True, default=str)
  return hashlib.sha256(said.encode()).hexdigest()[:12]


def _train(chunk: chunks.Chunk) -> dict[Path, dict[str, Any]]:
  """The results of runs that are not over, by directory."""
  runs = chunk.runs
  recorders: list[Recorder] = []
  lanes: list[Lane] = []
  try:
    for run in runs:
      recorders.append(
        Recorder(
          run.files,
          run.config,
          writes=distributed.is_first(),
          from_writer=distributed.from_first,
        )
      )
    made = distributed.together(functools.partial(_make, chunk))
    for n, (run, recorder) in enumerate(zip(runs, recorders, strict=True)):
      lanes.append(
        Lane(
          run.config,
          run.files,
          recorder,
          made.program,
          run.observe,
          chunk.facts(n),
          made.flops_per_step,
          run.window,
        )
      )
      lanes[-1].begin()
      recorder.clock.add("compile", made.bill_s())
    loop.train(lanes, made.stepper(lanes))
  except BaseException as error:
    is_signal = isinstance(error, KeyboardInterrupt | SystemExit)
    state = RunState.INTERRUPTED if is_signal else RunState.FAILED
    message = "" if is_signal else f"{type(error).__name__}: {error}"
    for recorder in recorders:
      # A full disk may be the error itself; it must not hide behind a second.
      with contextlib.suppress(OSError):
        recorder.stop(state, message)
    if not distributed.all_end(error):
      raise  # What is being saved waits for processes that wait for this one.
    try:
      _close(lanes)
    except Exception as second:
      if is_signal:
        raise  # The last checkpoint is what the end waits for.
      _LOG.warning("after that, closing failed too: %s", second)
    raise
  _close(lanes)
  return {
    run.directory: recorder.result
    for run, recorder in zip(runs, recorders, strict=True)
    if recorder.result is not None
  }


class _Made(NamedTuple):
  """What is compiled for a chunk.

  Attributes:
    program: of its runs.
    flops_per_step: of one of them.
    bill_s: seconds of compilation since its last call.
    stepper: of lanes that have begun.
  """

  program: compiled_lib.Program
  flops_per_step: float | None
  bill_s: Callable[[], float]
  stepper: Callable[[Sequence[Lane]], loop.Stepper]


def _make(chunk: chunks.Chunk) -> _Made:
  """Compiles what a chunk needs."""
  config = chunk.runs[0].config
  if chunk.size == 1:
    alone, _ = program.get(config)
    flops = compiled_lib.flops(alone.step)
    return _Made(alone, flops, alone.bill_s, lambda lanes: Alone())
  together = together_lib.get(config)
  compiled = together.get(
    chunk.size,
    same_batches=chunk.same_batches,
    same_evaluation=together_lib.evaluates_alike(config),
  )

  def stepper(lanes):
    return Population(
      together,
      compiled,
      lanes,
      chunk.places,
      same_batches=chunk.same_batches,
    )

  return _Made(
    together.program, compiled.flops_per_step, together.bill_s, stepper
  )


def _close(lanes: Sequence[Lane]) -> None:
  """Closes all lanes, also where one of them cannot."""
  with contextlib.ExitStack() as stack:
    for lane in lanes:
      stack.callback(lane.close)
