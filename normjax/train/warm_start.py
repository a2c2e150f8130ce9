"""Starting from what another run has learned: `train.initialize_from`."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from normjax import configure, errors
from normjax.nn.variables import COLLECTIONS
from normjax.record import files
from normjax.train import checkpoint, program
from normjax.train.state import State
from normjax.types import Hyper, PyTree

_KEY = "train.initialize_from"
_MOST_NAMED = 3


def check(run_directory: str) -> None:
  """Raises UserError unless there is a checkpoint in the run, or no run."""
  if run_directory:
    _newest(run_directory)


def start(config: configure.ConfigDict, fresh: State, hyper: Hyper) -> State:
  """The state before step 0, of another run's parameters and statistics.

  Args:
    config: of this run; `train.initialize_from` names the other's folder.
    fresh: as this run would start without.
    hyper: what the optimizer is made from: it starts on these parameters.

  Raises:
    UserError: no checkpoint, or one of other names or shapes, or a damaged
      one; the message says which.
  """
  directory = config.train.initialize_from
  path = _newest(directory)
  handler = ocp.PyTreeCheckpointHandler()
  with _readable(path):
    saved = handler.metadata(path).tree
  held = {name: saved.get(name, {}) for name in COLLECTIONS}
  problems = list(_differences(held, fresh.variables()))
  if problems:
    more = len(problems) - _MOST_NAMED
    raise errors.UserError(
      f"{_KEY}={directory!r} holds another model:"
      f" {'; '.join(problems[:_MOST_NAMED])}"
      + (f"; and {more} more." if more > 0 else ".")
    )
  with _readable(path):
    found = handler.restore(
      path,
      args=ocp.args.PyTreeRestore(
        item=held,
        restore_args=jax.tree.map(
          lambda _: ocp.RestoreArgs(restore_type=np.ndarray), held
        ),
        partial_restore=True,
      ),
    )
    if checkpoint.has_seal(path.parent):
      checkpoint.check_seal(checkpoint.read_seal(path.parent), found)
  variables = jax.tree.map(
    lambda leaf, value: jax.device_put(value.astype(leaf.dtype), leaf.sharding),
    fresh.variables(),
    found,
  )
  recipe, _ = program.recipe_and_initialize(config)
  state = jax.jit(recipe.start)(variables, hyper)
  return jax.tree.map(
    lambda value, leaf: jax.device_put(value, leaf.sharding), state, fresh
  )


def _newest(run_directory: str) -> Path:
  """The newest checkpoint's state.

  Raises:
    UserError: there is none.
  """
  folder = Path(run_directory).absolute() / files.CHECKPOINTS
  try:
    # While it is written, a checkpoint has a longer name.
    steps = [
      int(path.name)
      for path in (folder.iterdir() if folder.is_dir() else ())
      if path.name.isdigit()
    ]
  except OSError as error:  # Not to be read, or no name of a folder.
    raise errors.UserError(
      f"{_KEY}={run_directory!r}: {error.strerror}."
    ) from error
  if not steps:
    raise errors.UserError(
      f"{_KEY}={run_directory!r}: no checkpoint in {folder}; a run's folder is"
      " needed, <out>/<run id> or in a sweep <out>/runs/<run id>, of a run with"
      " checkpoint.every_steps above 0."
    )
  return folder / str(max(steps)) / "state"


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
  """What a damaged file makes the readers raise, as bad input.

  Raises:
    UserError: the checkpoint cannot be read, or is not what was saved.
  """
  try:
    yield
  except Exception as error:
    if checkpoint.is_elsewhere(error):
      raise
    raise errors.UserError(
      f"{_KEY}: the checkpoint {path.parent} {checkpoint.complaint(error)}."
      " Move it away to use the one before it."
    ) from error


def _differences(saved: PyTree, wanted: PyTree) -> Iterator[str]:
  """What is missing, left over or of another shape, leaf by leaf."""
  theirs, ours = _shapes(saved), _shapes(wanted)
  for path in sorted(theirs.keys() | ours.keys()):
    if path not in theirs:
      yield f"it has no {path}"
    elif path not in ours:
      yield f"its {path} has no place in this one"
    elif theirs[path] != ours[path]:
      yield f"{path} is {theirs[path]} there and {ours[path]} here"


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
  return {
    "/".join(key.key for key in path): tuple(leaf.shape)
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
  }
