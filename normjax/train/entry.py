"""One run, from its config to its result, resumable at any moment."""

import contextlib
import logging
from pathlib import Path
from typing import Any

from normjax import configure
from normjax.record import lock
from normjax.record.directory import RunDirectory, RunState
from normjax.train import check, checkpoint, loop, program

_LOG = logging.getLogger(__name__)


def run(
  config: configure.ConfigDict,
  directory: Path,
  observe: loop.Event = lambda name, step: None,
) -> dict[str, Any]:
  """Trains one config and returns its result.

  Returns at once where `result.json` is there. Goes on from the newest whole
  checkpoint where there is one, and then gives bit for bit what a run that
  was never stopped gives.

  Args:
    config: a resolved config.
    directory: of this run alone; created where missing.
    observe: called as ("evaluate" | "save" | "step" | "log", step).

  Returns:
    What `result.json` holds. Divergence is a result: `state` is "diverged".

  Raises:
    UserError: bad input; nothing was started.
    BusyRunError: another process trains in this directory.
    KeyboardInterrupt: a signal came; a checkpoint is there, where they are on.
  """
  directory = Path(directory)
  if (result := _finished(config, directory)) is not None:
    return result
  check.check(config)
  program.check_start(config, resumes=bool(checkpoint.steps(directory)))
  directory.mkdir(parents=True, exist_ok=True)
  with lock.held(directory, "run"):
    # Another process may have ended it before the lock was free.
    return _finished(config, directory) or _run(config, directory, observe)


def _finished(
  config: configure.ConfigDict, directory: Path
) -> dict[str, Any] | None:
  """This run's result, where it is over.

  Half a result is none: the checkpoints say how far the run got.

  Raises:
    RunError: a newer version has begun here, or the disk refuses.
  """
  run_directory = RunDirectory(directory, configure.run_id(config))
  run_directory.check_usable()
  return run_directory.read_result().value


def _run(
  config: configure.ConfigDict, directory: Path, observe: loop.Event
) -> dict[str, Any]:
  this = loop.Run(config, directory, observe)
  try:
    result = this.train()
  except BaseException as error:
    stopped = isinstance(error, KeyboardInterrupt | SystemExit)
    message = "" if stopped else f"{type(error).__name__}: {error}"
    # A full disk may be the error itself; it must not hide behind a second.
    with contextlib.suppress(OSError):
      state = RunState.INTERRUPTED if stopped else RunState.FAILED
      this.status(state, message=message)
    try:
      this.close()
    except Exception as second:
      if stopped:
        raise  # The last checkpoint is what the end waits for.
      _LOG.warning("after that, closing failed too: %s", second)
    raise
  this.close()
  return result
