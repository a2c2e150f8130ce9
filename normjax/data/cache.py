"""A cache of prepared data: each entry is whole or absent.

An entry is a folder, made beside its final name and renamed when complete,
under a lock, so that two processes that start at once make it once.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

# Written last; a folder without it was left by an older or broken writer.
_COMPLETE = "complete"


def cache_dir() -> Path:
  """`$NORMJAX_CACHE`, else `normjax` in the user's cache folder."""
  named = os.environ.get("NORMJAX_CACHE")
  if named:
    return Path(named)
  user = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
  return Path(user) / "normjax"


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
  path.parent.mkdir(parents=True, exist_ok=True)
  with path.open("w") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    yield


def entry(name: str, prepare: Callable[[Path], None]) -> Path:
  """The folder of an entry, prepared where it is not there yet.

  Args:
    name: with whatever decides its content, such as a version or a hash.
    prepare: fills the folder that it is given.

  Returns:
    The complete folder.
  """
  folder = cache_dir() / name
  if (folder / _COMPLETE).exists():
    return folder
  with _locked(folder.with_name(f".{folder.name}.lock")):
    if (folder / _COMPLETE).exists():
      return folder  # Another process made it while this one waited.
    shutil.rmtree(folder, ignore_errors=True)
    draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
      prepare(draft)
      (draft / _COMPLETE).touch()
      draft.rename(folder)
    finally:
      shutil.rmtree(draft, ignore_errors=True)
  return folder
