"""Start step: the parameters and statistics that another run has learned."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from normjax import errors
from normjax.nn import start
from normjax.nn.linear import dense_form
from normjax.nn.variables import COLLECTIONS, Structure
from normjax.record import files
from normjax.train import checkpoint


def from_run(directory: str = "") -> start.StartStep:
  """Parameters and statistics of a run's last checkpoint.

  The run's model and this one must agree in the names and shapes of all of
  them; whatever else the configs say may differ. The matrices of a dense run
  become W_0 where this model has `lora` or `relora`, whose factors stay as they
  are drawn: ReLoRA's warm start. It then computes what the run did, as one of
  the factors is zero.

  Args:
    directory: the run's folder, `<out>/<run id>` or in a sweep
      `<out>/runs/<run id>`.

  Raises:
    UserError: no folder is named. The step itself raises it where there is no
      checkpoint, or one of other names or shapes, or a damaged one.
  """
  if not isinstance(directory, str) or not directory:
    raise errors.UserError(
      f"start step 'run' has directory={directory!r}; needed: the folder of a"
      " run, as in run(directory='runs/<run id>')."
    )

  def check(model: Structure, shapes: start.Variables) -> None:
    path = _newest(directory)
    is_warm_start = dense_form.has_updates(model, shapes) and _is_dense(path)
    _saved(path, dense_form.shapes(model, shapes) if is_warm_start else shapes)

  def apply(
    model: Structure, variables: start.Variables
  ) -> tuple[Structure, start.Variables]:
    path = _newest(directory)
    is_warm_start = dense_form.has_updates(model, variables) and _is_dense(path)
    if not is_warm_start:
      return model, _read(path, variables)
    found = _read(path, dense_form.shapes(model, variables))
    return model, dense_form.from_dense(model, variables, found)

  return start.StartStep(apply, changes_structure=False, check=check)


def check_saved(directory: str, wanted: start.Variables) -> None:
  """Raises UserError where a run's last checkpoint holds other variables.

  Args:
    directory: of the run.
    wanted: anything with a shape, in nested dicts.
  """
  _saved(_newest(directory), wanted)


def read(directory: str, wanted: start.Variables) -> start.Variables:
  """The variables of a run's last checkpoint, NumPy's arrays.

  Args:
    directory: see `check_saved`, like `wanted`, and what is raised.
    wanted: see `directory`.
  """
  return _read(_newest(directory), wanted)


def _newest(run_directory: str) -> Path:
  """The newest checkpoint's state.

  Raises:
    UserError: there is none.
  """
  directory = Path(run_directory).absolute()
  folder = directory / files.CHECKPOINTS
  try:
    steps = checkpoint.steps(directory)
  except OSError as error:  # Not to be read, or no name of a folder.
    raise errors.UserError(f"{error.strerror}.") from error
  if not steps:
    raise errors.UserError(
      f"no checkpoint in {folder}; a run's folder is needed, <out>/<run id> or"
      " in a sweep <out>/runs/<run id>, of a run with checkpoint.every_steps"
      " above 0."
    )
  return folder / str(max(steps)) / "state"


def _is_dense(path: Path) -> bool:
  """Whether no matrix of a checkpoint is held as W_0 and factors."""
  saved = _tree(path).get("stats", {})
  leaves = jax.tree_util.tree_leaves_with_path(saved)
  return not any(keys[-1].key == dense_form.FROZEN for keys, _ in leaves)


def _tree(path: Path) -> dict[str, Any]:
  """The names and shapes of all that a checkpoint holds."""
  with _readable(path):
    return ocp.PyTreeCheckpointHandler().metadata(path).tree


def _saved(path: Path, wanted: start.Variables) -> dict[str, Any]:
  """What a checkpoint says that it holds of a model's variables.

  Raises:
    UserError: not what is wanted, or it cannot be read.
  """
  tree = _tree(path)
  saved = {name: tree.get(name, {}) for name in COLLECTIONS}
  start.check_same("holds another model", saved, wanted)
  return saved


def _read(path: Path, wanted: start.Variables) -> start.Variables:
  """A checkpoint's variables, NumPy's arrays."""
  saved = _saved(path, wanted)
  with _readable(path):
    found = ocp.PyTreeCheckpointHandler().restore(
      path,
      args=ocp.args.PyTreeRestore(
        item=saved,
        restore_args=jax.tree.map(
          lambda _: ocp.RestoreArgs(restore_type=np.ndarray), saved
        ),
        partial_restore=True,
      ),
    )
    if checkpoint.has_seal(path.parent):
      checkpoint.check_seal(checkpoint.read_seal(path.parent), found)
  return found


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
      f"the checkpoint {path.parent} {checkpoint.complaint(error)}."
      " Move it away to use the one before it."
    ) from error
