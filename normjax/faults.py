"""What fails because of the machine, not of what it was given.

Disks that are full or closed, names that are too long, memory that ran out:
as Python says it, and as the libraries below JAX do.
"""

import contextlib
import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

DISK_ERRORS = (
  errno.ENOSPC,
  errno.EDQUOT,
  errno.EFBIG,
  errno.EROFS,
  errno.EACCES,
  errno.EPERM,
  errno.ENOTDIR,
  errno.EISDIR,
  errno.EEXIST,
  errno.ENAMETOOLONG,
  errno.ELOOP,
  errno.EIO,
  errno.ESTALE,
)
# Of a folder that cannot be used now, whatever its files hold.
CLOSED = (
  errno.ENOSPC,
  errno.EDQUOT,
  errno.EROFS,
  errno.EACCES,
  errno.EPERM,
)
# C++ and the kernel name memory in their own ways; the last is Python's, for a
# thread whose stack finds no room.
_MEMORY_TEXTS = (
  "RESOURCE_EXHAUSTED",
  "Cannot allocate memory",
  "std::bad_alloc",
  "can't start new thread",
)


def disk(error: BaseException) -> OSError | None:
  """The disk's error behind an error, or None where it is another.

  TensorStore raises a ValueError that ends in the system's own words.
  """
  for each in _chain(error):
    if isinstance(each, OSError):
      if each.errno in DISK_ERRORS:
        return each
    elif isinstance(each, ValueError | RuntimeError):
      text = str(each)
      for number in DISK_ERRORS:
        if os.strerror(number) in text:
          return OSError(number, os.strerror(number))
  return None


def is_memory(error: BaseException) -> bool:
  """Whether memory ran out, the host's or a device's."""
  return any(
    isinstance(each, MemoryError)
    or (isinstance(each, OSError) and each.errno == errno.ENOMEM)
    or (
      # A full disk is RESOURCE_EXHAUSTED too.
      isinstance(each, RuntimeError | ValueError)
      and disk(each) is None
      and any(text in str(each) for text in _MEMORY_TEXTS)
    )
    for each in _chain(error)
  )


_waits_in_vain = False


def wait_in_vain() -> None:
  """Says that threads of this process wait for what will not come.

  As for another process that is gone: none of them is to be waited for.
  """
  global _waits_in_vain
  _waits_in_vain = True


def waits_in_vain() -> bool:
  """Whether that was said."""
  return _waits_in_vain


def describe(error: OSError) -> str:
  """What a disk's error means, in one line."""
  where = error.filename or "the output"
  return f"cannot use {where}: {error.strerror or error}"


def make_folder(path: Path) -> None:
  """Makes a folder and those above it, where they are missing.

  Raises:
    OSError: one of `DISK_ERRORS`, also where Python has no word for it.
  """
  try:
    path.mkdir(parents=True, exist_ok=True)
  except FileNotFoundError as error:
    # As /proc answers: what was to be made does not exist.
    raise PermissionError(
      errno.EPERM, "No folder can be made there", str(path)
    ) from error


def make_writable(path: Path) -> None:
  """Makes a folder, and a file in it that goes at once.

  What takes minutes asks beforehand.

  Raises:
    OSError: see `make_folder`.
  """
  make_folder(path)
  with naming(path), tempfile.TemporaryFile(dir=path):
    pass


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
  """Adds the file's name to a disk's error, where Python leaves it out."""
  try:
    yield
  except OSError as error:
    if error.filename is None:
      error.filename = str(path)
    raise


def one_line(error: BaseException, most_chars: int = 400) -> str:
  """The error's name and message in one line."""
  text = " ".join(str(error).split())
  if len(text) > most_chars:
    text = text[:most_chars] + " ..."
  return f"{type(error).__name__}: {text}" if text else type(error).__name__


def late_callbacks(report: Callable[[Any], Any]) -> Callable[[Any], Any]:
  """A `sys.unraisablehook` that leaves out writes that ended too late.

  Orbax closes its event loop when one write of a checkpoint fails, and raises
  that failure. Those that TensorStore still has under way fail to report to
  the loop, each with a traceback, and say nothing new.

  Args:
    report: the hook for everything else.
  """

  def hook(unraisable: Any) -> None:
    error = unraisable.exc_value
    if isinstance(error, RuntimeError) and str(error) == "Event loop is closed":
      return
    report(unraisable)

  return hook


def _chain(error: BaseException | None) -> Iterator[BaseException]:
  """The error and what it was raised from."""
  while error is not None:
    yield error
    error = error.__cause__
