"""Orbax checkpoints of {state, clock, seal}: whole, or not there.

The newest one that restores is used; one that does not is set aside with a
message, and the run goes on from the one before it. The seal says whose the
checkpoint is and what each leaf held when it was saved: bits that changed on
the way, and another run's checkpoint, do not restore either.
"""

import contextlib
import functools
import hashlib
import itertools
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from normjax import errors, faults
from normjax.record import files
from normjax.train import digest
from normjax.train.processes import distributed
from normjax.train.state import State

_LOG = logging.getLogger(__name__)
_SEAL = "seal"
_MOST_NAMED = 3


class SealError(ValueError):
  """A checkpoint that is not what was saved, or not this run's."""


class Checkpoints:
  """The checkpoints of one run directory."""

  def __init__(self, directory: Path, keep: int, run_id: str | None = None):
    """Opens the directory, creating it where missing.

    Args:
      directory: of this run alone.
      keep: how many of the newest stay.
      run_id: of this run; a checkpoint of another one is set aside. None
        takes anybody's.
    """
    options = ocp.CheckpointManagerOptions(
      max_to_keep=keep,
      # Whether to save is decided by the loop.
      save_interval_steps=1,
      enable_async_checkpointing=True,
    )
    self._directory = directory.absolute()
    self._run_id = run_id
    with self._disk_errors():
      self._manager = ocp.CheckpointManager(self._directory, options=options)

  def save(self, state: State, clock: dict[str, float]) -> None:
    """Starts writing; returns before it is durable.

    Args:
      state: buffers that no later step overwrites.
      clock: seconds by activity.
    """
    tree = state.branches()
    with self._disk_errors():
      self._manager.save(
        int(state.step),
        args=ocp.args.Composite(
          state=ocp.args.StandardSave(tree),
          clock=ocp.args.JsonSave(clock),
          seal=ocp.args.JsonSave(_seal(self._run_id, tree, clock)),
        ),
      )

  def restore(
    self, abstract_state: State
  ) -> tuple[State | None, dict[str, Any] | None, list[str]]:
    """The newest whole checkpoint, or None: (state, clock, problems met)."""
    problems = []
    steps = distributed.from_first(lambda: list(self._manager.all_steps()))
    for step in sorted(steps, reverse=True):
      found, wrong = self._try_read(step, abstract_state)
      if wrong:
        aside = distributed.from_first(functools.partial(self._aside, step))
        problems.append(f"checkpoint {step} {wrong}; it was moved to {aside}")
        _LOG.warning(problems[-1])
        self._manager.reload()
      else:
        if _SEAL not in found:
          problems.append(
            f"checkpoint {step} has no fingerprints, being of an earlier"
            " version; it was taken as it is"
          )
          _LOG.warning(problems[-1])
        return State(**found["state"]), found["clock"], problems
    if problems:
      problems.append("no whole checkpoint is left; starting over")
      _LOG.warning(problems[-1])
    return None, None, problems

  def close(self) -> None:
    """Waits for what is being written."""
    with self._disk_errors():
      self._manager.wait_until_finished()
      self._manager.close()

  def _aside(self, step: int) -> str:
    """Moves a checkpoint out of the way; what was moved earlier stays."""
    plain = self._directory.with_name(f"ckpt-unreadable-{step}")
    numbered = (
      plain.with_name(f"{plain.name}-{n}") for n in itertools.count(2)
    )
    names = itertools.chain([plain], numbered)
    aside = next(path for path in names if not path.exists())
    (self._directory / str(step)).rename(aside)
    return aside.name

  def _try_read(self, step: int, abstract_state: State) -> tuple[Any, str]:
    """What a checkpoint holds, and what is wrong with it, in any process."""
    folder = self._directory / str(step)
    # All check or none does: it takes all of them.
    is_sealed = distributed.from_first(lambda: has_seal(folder))
    found, wrong = _tried(lambda: self._read(step, abstract_state, is_sealed))
    wrong = next(filter(None, distributed.every(wrong)), "")
    if not wrong:
      # All together: what no process holds whole, none can compare alone.
      _, wrong = _tried(lambda: self._check(step, found))
    return found, wrong

  def _read(self, step: int, abstract_state: State, is_sealed: bool) -> Any:
    items: dict[str, Any] = {
      "state": ocp.args.StandardRestore(abstract_state.branches()),
      "clock": ocp.args.JsonRestore(),
    }
    if is_sealed:
      items[_SEAL] = ocp.args.JsonRestore()
    return self._manager.restore(step, args=ocp.args.Composite(**items))

  def _check(self, step: int, found: Any) -> None:
    """Raises SealError where it is not what was saved, or another run's."""
    if _SEAL in found:
      check_seal(found[_SEAL], found["state"], found["clock"], self._run_id)
    if (held := int(found["state"]["step"])) != step:
      # A later step that is saved would meet the name, and not be written.
      raise SealError(f"is of step {held}")

  @contextlib.contextmanager
  def _disk_errors(self) -> Iterator[None]:
    """TensorStore's ValueError about a disk as the OSError that it is."""
    try:
      yield
    except (ValueError, RuntimeError) as error:
      found = faults.disk(error)
      if found is None:
        raise
      raise OSError(
        found.errno, found.strerror, found.filename or str(self._directory)
      ) from error


def _tried[T](action: Callable[[], T]) -> tuple[T | None, str]:
  """What an action gives, or what is wrong with the checkpoint it is of."""
  try:
    return action(), ""
  # Whatever a damaged file makes the readers below Orbax raise, the answer is
  # the same: say so, use the one before.
  except Exception as error:
    if is_elsewhere(error):
      raise  # The one before would fare no better, and this may be whole.
    return None, complaint(error)


def steps(directory: Path) -> list[int]:
  """Those of the whole checkpoints in a run's folder, in no order.

  Raises:
    OSError: it cannot be listed.
  """
  folder = directory / files.CHECKPOINTS
  # While it is written, a checkpoint has a longer name.
  return [
    int(path.name)
    for path in (folder.iterdir() if folder.is_dir() else ())
    if path.name.isdigit()
  ]


def read(directory: Path, abstract_state: State, run_id: str) -> State:
  """The state in a checkpoint's folder, NumPy's arrays; nothing is written.

  Args:
    directory: of one checkpoint.
    abstract_state: the shapes that it must have.
    run_id: whose it must be.

  Raises:
    SealError: it is not what was saved, or another run's.
    Exception: whatever a damaged file makes the readers raise.
  """
  directory = directory.absolute()  # As Orbax wants it.
  item = abstract_state.branches()
  found = ocp.PyTreeCheckpointHandler().restore(
    directory / "state",
    args=ocp.args.PyTreeRestore(
      item=item,
      restore_args=jax.tree.map(
        lambda _: ocp.RestoreArgs(restore_type=np.ndarray), item
      ),
    ),
  )
  wrong = [
    jax.tree_util.keystr(path, simple=True, separator="/")
    for (path, want), leaf in zip(
      jax.tree_util.tree_leaves_with_path(item),
      jax.tree.leaves(found),
      strict=True,
    )
    if want.shape != np.shape(leaf)
  ]
  if wrong:
    raise SealError(
      "holds another model, or another optimizer's state: other shapes in"
      f" {', '.join(wrong[:_MOST_NAMED])}"
    )
  if has_seal(directory):
    check_seal(read_seal(directory), found, run_id=run_id)
  return State(**found)


def has_seal(directory: Path) -> bool:
  """Whether a checkpoint's folder has a seal: earlier versions wrote none."""
  return (directory / _SEAL).exists()


def read_seal(directory: Path) -> Any:
  """The seal in a checkpoint's folder."""
  return ocp.JsonCheckpointHandler().restore(directory / _SEAL)


def check_seal(
  seal: Any, tree: Any, clock: Any = None, run_id: str | None = None
) -> None:
  """Compares a checkpoint with its seal.

  Args:
    seal: as it was read.
    tree: what was restored: the state, or some branches of it.
    clock: what was restored; None: it was not.
    run_id: whose it must be; None: anybody's.

  Raises:
    SealError: they do not agree; the message says in what.
  """
  try:
    whose, leaves, clock_hash = seal["run_id"], seal["leaves"], seal["clock"]
    whole = seal["seal"] == _hash([whose, leaves, clock_hash])
  except (KeyError, TypeError):
    whole = False
  if not whole:
    raise SealError("has a damaged seal")
  if run_id is not None and whose != run_id:
    raise SealError(f"is of run {whose}, not of this one, {run_id}")
  if clock is not None and clock_hash != _hash(clock):
    raise SealError("has a clock that is not the one that was saved")
  found = digest.compute(tree)
  expected = {
    path: value
    for path, value in leaves.items()
    if path.partition("/")[0] in tree
  }
  wrong = digest.differing(found, expected)
  if wrong:
    raise SealError(
      f"holds other bits than were saved in {errors.few(wrong, _MOST_NAMED)}"
    )


def is_elsewhere(error: Exception) -> bool:
  """Whether the machine failed, and not what the checkpoint's files hold."""
  found = faults.disk(error)
  return faults.is_memory(error) or (
    found is not None and found.errno in faults.CLOSED
  )


def complaint(error: Exception) -> str:
  """What is wrong with a checkpoint, after its name."""
  if isinstance(error, SealError):
    return str(error)
  first = (str(error).splitlines() or [""])[0][:200]
  return f"cannot be read: {type(error).__name__}: {first}"


def _seal(
  run_id: str | None, tree: Mapping[str, Any], clock: Mapping[str, float]
) -> dict[str, Any]:
  leaves, clock_hash = digest.compute(tree), _hash(clock)
  return {
    "run_id": run_id,
    "leaves": leaves,
    "clock": clock_hash,
    "seal": _hash([run_id, leaves, clock_hash]),
  }


def _hash(value: Any) -> str:
  text = json.dumps(value, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:16]
