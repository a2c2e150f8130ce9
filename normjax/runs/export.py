"""What a run learned, as one safetensors file."""

import contextlib
import json
import uuid
from collections.abc import Mapping
from pathlib import Path

import numpy as np

import normjax
from normjax import configure, errors, faults


def save(
  path: Path,
  variables: Mapping[str, Mapping[str, np.ndarray]],
  run_id: str,
  step: int,
  config: configure.ConfigDict,
  *,
  overwrite: bool = False,
) -> Path:
  """Writes the file at once: a reader sees all of it, or what was there.

  Args:
    path: of the file.
    variables: by collection and path; "<collection>/<path>" is a tensor's
      name. Dtypes stay, bfloat16 too.
    run_id: for the metadata, like all that follows.
    step: see `run_id`.
    config: see `run_id`.
    overwrite: a file that has anything else than this run at this step.

  Returns:
    The path.

  Raises:
    RunError: it cannot be written, or has something else.
  """
  if path.exists() and not path.is_file() and not path.is_dir():
    # It would be replaced, as /dev/stdout by a file of that name.
    raise errors.RunError(f"cannot write {path}: it is no file.")
  if path.is_symlink():
    path = path.resolve()  # What it leads to is written, not the link.
  if not overwrite and path.is_file():
    _check_same(path, run_id, step)
  from safetensors import numpy as safetensors

  tensors = {
    f"{collection}/{name}": np.ascontiguousarray(value)
    for collection, leaves in variables.items()
    for name, value in leaves.items()
  }
  metadata = {
    "run_id": run_id,
    "step": str(step),
    "config": json.dumps(configure.to_dict(config), sort_keys=True),
    "normjax": normjax.__version__,
  }
  new = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
  try:
    faults.make_folder(path.parent)
    new.write_bytes(safetensors.save(tensors, metadata=metadata))
    new.replace(path)
  except OSError as error:
    with contextlib.suppress(OSError):  # There may be no such folder.
      new.unlink(missing_ok=True)
    raise errors.RunError(f"cannot write {path}: {error.strerror}.") from error
  return path


def _check_same(path: Path, run_id: str, step: int) -> None:
  """Raises RunError where a file is not of this run at this step."""
  told = _metadata(path)
  if (told.get("run_id"), told.get("step")) == (run_id, str(step)):
    return
  what = "no weights of a run"
  if "run_id" in told:
    what = f"run {told['run_id']} at step {told.get('step')}"
  raise errors.RunError(
    f"{path} exists and has {what}, not run {run_id} at step {step}. Give"
    " another file, or --overwrite to lose that one."
  )


def _metadata(path: Path) -> Mapping[str, str]:
  """What a safetensors file says of itself; {} of any other file."""
  import safetensors

  try:
    with safetensors.safe_open(path, framework="numpy") as file:
      return file.metadata() or {}
  except (OSError, safetensors.SafetensorError):
    return {}
