"""A cache of prepared data: each entry is whole or absent.

An entry is a folder, made beside its final name and renamed when complete,
under a lock, so that two processes that start at once make it once. An entry
that has lost a file, or part of one, is made again.
"""

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from normjax import errors, faults

# Written last: the size of every file, as JSON.
_COMPLETE = "complete"


def cache_dir() -> Path:
  """`$NORMJAX_CACHE`, else `normjax` in the user's cache folder."""
  named = os.environ.get("NORMJAX_CACHE")
  if named:
    return Path(named)
  user = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
  return Path(user) / "normjax"


def entry(name: str, prepare: Callable[[Path], None]) -> Path:
  """The folder of an entry, prepared where it is not there yet.

  Args:
    name: with whatever decides its content, such as a version or a hash.
    prepare: fills the folder that it is given.

  Returns:
    The complete folder.

  Raises:
    CacheError: the cache cannot be written.
  """
  folder = cache_dir() / name
  if _is_whole(folder):
    return folder
  try:
    with _locked(folder.with_name(f".{folder.name}.lock")):
      if not _is_whole(folder):  # Else another process was faster.
        _make(folder, prepare)
  # Writers below Python say in a RuntimeError that a disk is full.
  except (OSError, RuntimeError) as error:
    if not isinstance(error, OSError) and faults.disk(error) is None:
      raise
    raise errors.CacheError(
      f"cannot write the cache of prepared data {folder}: {error}."
      " Make room there, or set NORMJAX_CACHE to another folder."
    ) from error
  return folder


def _sizes_bytes(folder: Path) -> dict[str, int]:
  return {
    str(path.relative_to(folder)): path.stat().st_size
    for path in sorted(folder.rglob("*"))
    if path.is_file() and path.name != _COMPLETE
  }


def _is_whole(folder: Path) -> bool:
  try:
    return json.loads((folder / _COMPLETE).read_text()) == _sizes_bytes(folder)
  except (OSError, ValueError):
    return False


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
  faults.make_folder(path.parent)
  with path.open("w") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    yield


def _make(folder: Path, prepare: Callable[[Path], None]) -> None:
  """Makes the entry; the caller holds its lock, so all drafts are stale."""
  prefix = f".{folder.name}.draft-"
  for stale in folder.parent.glob(f"{prefix}*"):
    shutil.rmtree(stale)
  workspace = Path(tempfile.mkdtemp(dir=folder.parent, prefix=prefix))
  try:
    # A folder of its own: that of mkdtemp is closed to other users.
    draft = workspace / folder.name
    draft.mkdir()
    prepare(draft)
    (draft / _COMPLETE).write_text(json.dumps(_sizes_bytes(draft)))
    if folder.exists():
      folder.rename(workspace / "broken")
    draft.rename(folder)
  finally:
    shutil.rmtree(workspace)
