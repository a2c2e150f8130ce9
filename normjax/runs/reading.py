"""Which directory is a run, and which a sweep; what to do with another one."""

from pathlib import Path

from normjax import errors
from normjax.record import files
from normjax.record.directory import PLAN, RUNS, RunDirectory

# The block of a record by `normjax.runs.adaptation`.
ADAPTED = "adapt"


def open_run(directory: str | Path) -> tuple[RunDirectory, dict]:
  """The files of a run, and what its `run.json` holds.

  Raises:
    RunError: the directory is no run, or its `run.json` cannot be used.
  """
  path = _folder(directory, "load_run")
  if (path / PLAN).exists():
    raise errors.RunError(
      f"{path} is a sweep ({PLAN}), not a run: load_sweep({str(path)!r}) opens"
      f" it; its runs are the folders of {path / RUNS}."
    )
  found = RunDirectory.at(path).read_run()
  if found.value is not None:
    if ADAPTED in found.value["config"]:
      raise errors.RunError(
        f"{path} is a stream that run {found.value.get('of')} was adapted to;"
        " it has no model of its own: open that run."
      )
    return RunDirectory.at(path), found.value
  if found.problem:
    raise errors.RunError(
      f"{found.problem}."
      + (
        " Open it with the normjax that wrote it."
        if found.blocked
        else " `normjax train` or `normjax sweep` writes it anew."
      )
    )
  inside = sorted(
    each.parent
    for pattern in (f"*/{files.RUN}", f"{RUNS}/*/{files.RUN}")
    for each in path.glob(pattern)
  )
  if inside:
    raise errors.RunError(
      f"{path} is a folder of {len(inside)} runs, not a run:"
      f" load_run({str(inside[0])!r}) opens one, load_sweep({str(path)!r}) all."
    )
  raise errors.RunError(
    f"{path} has no {files.RUN}: it is no run, or one that has not begun;"
    " expected the folder that `normjax train` wrote, or one of a sweep's"
    f" {RUNS}/."
  )


def check_sweep(directory: str | Path) -> Path:
  """The folder of a sweep, or of single runs.

  Raises:
    RunError: it does not exist, or is one run.
  """
  path = _folder(directory, "load_sweep")
  if (path / files.RUN).exists() and not (path / PLAN).exists():
    raise errors.RunError(
      f"{path} is a run ({files.RUN}), not a sweep: load_run({str(path)!r})"
      " opens it."
    )
  return path


def _folder(directory: str | Path, function: str) -> Path:
  try:
    path = Path(directory)
    if path.is_dir():
      return path
    what = "is a file" if path.exists() else "does not exist"
  except (TypeError, ValueError, OSError) as error:
    raise errors.RunError(f"{function}({directory!r}): {error}.") from error
  raise errors.RunError(
    f"{path} {what}; {function} needs a folder"
    f" ({Path.cwd() / path if not path.is_absolute() else path})."
  )
